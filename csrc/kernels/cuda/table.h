#pragma once
// The kernels of a GPU, as plain functions that launch them on a stream: what the host knows of them. Pointers are
// device memory. Each returns CUDA's error code, 0 if all is well.
//
// Rows of floats have a stride of their own; no kernel reads or writes behind a row's width.

#include <cstddef>
#include <cstdint>

#include "formats/formats.h"
#include "formats/kv_types.h"
#include "kernels/shapes.h"

namespace pygpt::cuda {

/// A row of a batch.
struct RowInfo {
  int32_t token;
  int32_t previous;  // -1 at position 0
  int32_t position;
  int32_t pages;  // where the numbers of its sequence's pages begin
};

/// [rows, ...] floats.
struct FloatRows {
  float* data = nullptr;
  int64_t stride = 0;  // floats
};

/// A norm of rows, in the terms of the CPU's NormArgs. Without a gain: none.
struct NormOf {
  const float* gain = nullptr;  // [width]
  const float* bias = nullptr;  // [width], or null
  float epsilon = 0;
  Norm kind = Norm::layer_norm;
};

/// A tensor to look rows up in: [rows, cols] in panels or as a table.
struct Lookup {
  const std::byte* data = nullptr;
  int format = 0;  // of WeightFormats
  bool table = false;
  int64_t cols = 0;
};

/// x = wte[token] + wpe[position], normed where there is a gain; then what stream.cuh says.
struct EmbedArgs {
  const RowInfo* rows;
  int count;
  Lookup wte;
  Lookup wpe;  // without data: no learned positions
  NormOf norm;
  FloatRows x;
  const float* smear_gate;  // [smear_width], or null
  int64_t smear_width;
  float smear_lambda;
  FloatRows before;      // [rows, d_model] scratch, where there is a smear
  const float* lambdas;  // [2] of layer 0, or null
  FloatRows x0;          // where there are lambdas
};

/// x += -lambda * backout, x = lambdas[0] * x + lambdas[1] * x0, and a copy: what happens to x between two layers.
struct MixArgs {
  int count;
  int64_t width;
  FloatRows x;
  FloatRows keep;        // gets a copy of x first; without data: none
  const float* lambdas;  // [2] of the next layer, or null
  FloatRows x0;
  FloatRows backout;  // is taken back, times lambda; without data: nothing
  float backout_lambda;
};

/// What becomes of the sums of a product.
enum class After : int { store, add, activate, gate };

/// y = after(norm(x) w^T + bias). Row r of y depends on row r of x only, bit for bit, whatever the other rows.
struct MatmulArgs {
  FloatRows x;
  const int32_t* places;  // row i of the product is row places[i] of x; null: row i
  int rows;
  NormOf norm;
  const std::byte* w;  // [n, k] in panels of the kernel's format
  const float* bias;   // [n] or null; with a gate, in w's order
  int64_t n;           // columns of y
  int64_t k;
  FloatRows y;
  After after;
  Activation activation;  // of activate and gate: activation(gate) * up, panels of which take turns in w
  float cap;              // y = cap * tanh(y / cap); 0: as they are
};

/// out[i] = norm(x[places[i]])
struct NormArgs {
  FloatRows x;
  const int32_t* places;
  int rows;
  int64_t width;
  NormOf norm;
  FloatRows out;
};

/// Where the keys and values of a layer lie (model/kv_cache.h).
struct CacheOf {
  std::byte* pool;  // all pages
  int64_t page_bytes;
  const int32_t* pages;  // numbers, from RowInfo::pages on
  int64_t layer_offset;  // in a page
  int64_t group_bytes;   // k and v of one head
  int64_t v_offset;      // in these
  int head_dim;
};

enum class TurnAndNorm : int { turn, norm_turn, turn_norm };

/// Norms and turns q and k of each row, adds to v what the token says, and writes k and v to the cache. In place.
struct AppendArgs {
  const RowInfo* rows;
  int count;
  FloatRows qkv;  // [rows, n_kv_head * group rows]: each group q of its heads, k, v, each at a panel
  int n_kv_head;
  int heads_per_group;
  CacheOf cache;
  const float* angles;  // [positions, head_dim] cosines, then sines; null: nothing turns
  TurnAndNorm order;
  const float* q_gain;  // [head_dim], or null: no norm
  const float* k_gain;
  float epsilon;
  FloatRows normed;         // what q, k, v were made of; read where there is a value gate
  const float* value_gate;  // [n_kv_head, width], or null
  int64_t value_gate_width;
  float value_gate_scale;
  Lookup value_embed;  // cols: head_dim, a row for each (token, group)
};

/// softmax(scale q k^T) v over the last `window` positions up to each row's own.
struct AttendArgs {
  const RowInfo* rows;
  int count;
  FloatRows qkv;
  int n_head;
  int heads_per_group;
  CacheOf cache;
  int64_t window;
  float scale;
  FloatRows out;   // [rows, n_head * head_dim]
  float* weights;  // instead of out, where it is there: the weights [n_head, length, length] of one sequence
  int64_t length;
};

/// Candidates of a nucleus that a device puts in order; the host must choose where more might be needed.
inline constexpr int kMostSorted = 1024;

/// The rules that choose a row's token, where they are among those that the device knows (sampling/params.h).
inline constexpr int kMostStopTokens = 16;
struct ChooseRules {
  float temperature;
  int32_t top_k;
  int32_t top_k_ties;
  float top_p;
  float min_p;
  int32_t forbidden_count;  // of forbidden: stop tokens while min_tokens are not reached
  int32_t forbidden[kMostStopTokens];
  uint64_t seed;
  uint32_t sample;
  int32_t min_tokens;
  int64_t index;         // of the token in the output
  int32_t host_chooses;  // the rules are others: leave it alone
  int32_t row;           // of the batch that the logits are of; its next token goes there
};

/// What the device answers where the host must choose.
inline constexpr int32_t kHostChooses = -3;

/// One block a row: out[i] = the token that the rules choose from logits[i], a Choice, or kHostChooses.
struct ChooseArgs {
  FloatRows logits;
  int count;
  int32_t vocab_size;
  ChooseRules* rules;  // [count]; index goes up by one
  FloatRows scratch;   // [count, vocab_size] weights
  int32_t* out;        // [count]
  RowInfo* rows;       // of the batch, for the next step: token, previous and position move on; null: no next step
};

struct KernelTable {
  const char* name;
  int (*embed)(const EmbedArgs&, void* stream);
  int (*mix)(const MixArgs&, void* stream);
  int (*norm)(const NormArgs&, void* stream);
  int (*matmul[WeightFormats::kCount])(const MatmulArgs&, void* stream);
  int (*append[KvTypes::kCount])(const AppendArgs&, void* stream);
  int (*attend[KvTypes::kCount])(const AttendArgs&, void* stream);
  int (*choose)(const ChooseArgs&, void* stream);
};

}  // namespace pygpt::cuda
