// The whole engine on a GPU, held against the engine on the processor: every architecture and format, any batch and any
// chunk to the same bits, many steps in one run, what is looked into, and what happens where memory ends.

#include "backend/cuda/cuda_backend.h"

#include <cstring>

#include "check.h"
#include "emulated/test_device.h"
#include "engine/ask.h"
#include "engine/harness.h"
#include "model/any_model.h"

namespace pygpt::test {
namespace {

using File = std::shared_ptr<const ModelFile>;

EngineOptions on_device(EngineOptions options = {}) {
  options.device = "cuda";
  options.cuda_device = open_test_device();
  return options;
}

std::vector<float> logits_of(const File& file, const EngineOptions& options) {
  Engine engine(file, options);
  return ask(engine, {{.prompt = prompt_of(22, 1), .max_tokens = 0, .logits = true}})[0].logits;
}

const std::vector<std::pair<const char*, ModelConfig>>& shapes() {
  static const std::vector<std::pair<const char*, ModelConfig>> all = {
      {"gpt2", gpt2_shape()}, {"llama", llama_shape()}, {"nanochat", nanochat_shape()}};
  return all;
}

void like_the_processor() {
  for (const auto& [name, config] : shapes()) {
    for (const char* format : WeightFormats::kNames) {
      const File file = any_model(config, format);
      const auto wanted = logits_of(file, {.threads = 1, .kv_dtype = "f32"});
      const auto got = logits_of(file, on_device({.kv_dtype = "f32"}));
      expect_equal(got.size(), wanted.size());
      float size = 0, off = 0;
      for (size_t i = 0; i < got.size(); ++i) {
        size = std::max(size, std::fabs(wanted[i]));
        off = std::max(off, std::fabs(got[i] - wanted[i]));
      }
      // In bytes, an activation at a tie may be rounded the other way: a 127th of a group's largest.
      const bool bytes = format[0] == 'q';
      expect(off <= (bytes ? 3e-2f : 1e-5f) * size, join(name, " ", format, ": off by ", off, " of ", size));
    }
  }
}
const Test like_the_processor_test{"logits are those of the processor for every architecture and format",
                                   like_the_processor};

void any_cache() {
  for (const char* kv_dtype : KvTypes::kNames) {
    const File file = any_model(llama_shape(), "f32");
    const auto wanted = logits_of(file, {.threads = 1, .kv_dtype = kv_dtype});
    const auto got = logits_of(file, on_device({.kv_dtype = kv_dtype}));
    float off = 0;
    for (size_t i = 0; i < got.size(); ++i) off = std::max(off, std::fabs(got[i] - wanted[i]));
    // Where a number lies at a tie, the cache rounds it the other way.
    expect(off <= (kv_dtype == std::string("f32") ? 1e-5f : 2e-2f), join(kv_dtype, ": off by ", off));
  }
}
const Test any_cache_test{"and with every type of cache", any_cache};

Request asked(int32_t seed, int64_t max_tokens = 12) {
  Request made{.prompt = prompt_of(1 + seed * 7 % 30, seed), .max_tokens = max_tokens};
  made.sampling = {.temperature = 0.9f, .top_k = 20, .top_p = 0.95f, .seed = static_cast<uint64_t>(seed)};
  return made;
}

/// All that a request got.
struct Got {
  std::vector<int32_t> tokens;
  std::vector<float> logits;
  bool operator==(const Got& other) const {
    return tokens == other.tokens && logits.size() == other.logits.size() &&
           std::memcmp(logits.data(), other.logits.data(), logits.size() * sizeof(float)) == 0;
  }
};

std::vector<Got> all_of(Engine& engine, int32_t count) {
  std::vector<Request> requests;
  for (int32_t seed = 0; seed < count; ++seed) {
    requests.push_back(asked(seed, 3));
    requests.back().prompt = prompt_of(1 + seed * 3 % 11, seed);
    requests.back().logits = true;
  }
  std::vector<Got> got;
  for (Event& event : ask(engine, requests)) got.push_back({std::move(event.token_ids), std::move(event.logits)});
  return got;
}

void any_batch_and_chunk() {
  for (const auto& [format, chunk] : {std::pair<const char*, int64_t>{"f16", 1}, {"q4", 3}}) {
    const File file = any_model(nanochat_shape(), format);
    Engine alone(file, on_device({.prefill_chunk = 48, .max_running = 1}));
    Engine together(file, on_device({.prefill_chunk = chunk}));
    const auto wanted = all_of(alone, 8);
    for (const int32_t count : {2, 8}) {
      const auto got = all_of(together, count);
      for (size_t i = 0; i < got.size(); ++i)
        expect(got[i] == wanted[i], join(format, ", chunk ", chunk, ", ", i, " of ", count));
    }
  }
}
const Test any_batch_and_chunk_test{"any batch and any chunk: the same bits", any_batch_and_chunk};

void many_steps() {
  const File file = any_model(llama_shape(), "bf16");
  Engine engine(file, on_device());
  for (const int32_t seed : {1, 3, 4}) {
    Request one_by_one = asked(seed, 14), together = asked(seed, 14);
    one_by_one.logprobs = 0;  // somebody reads the logits: the device stops after each token
    if (seed == 3) one_by_one.sampling.top_k = together.sampling.top_k = 0;  // a nucleus of any size
    if (seed == 4) one_by_one.sampling.temperature = together.sampling.temperature = 0;
    const auto wanted = ask(engine, {one_by_one})[0].token_ids;
    expect_equal(wanted.size(), size_t{14}, "as many as were asked for");
    expect_equal(ask(engine, {together})[0].token_ids, wanted, join("seed ", seed));
    together.sampling.stop_token_ids = {wanted[5]};
    const auto stopped = ask(engine, {together})[0];
    const auto end = std::ranges::find(wanted, wanted[5]);
    expect_equal(stopped.token_ids, std::vector<int32_t>(wanted.begin(), end), "up to the stop token");
    expect_equal(finish_of(stopped), "stop");
  }
}
const Test many_steps_test{"many steps in one run choose what one step after the other chooses", many_steps};

void penalties() {
  const File file = any_model(gpt2_shape(), "f32");
  Engine cpu(file, {.threads = 1}), gpu(file, on_device());
  Request request = asked(5, 20);
  request.sampling = {
      .temperature = 0, .repetition_penalty = 1.3f, .frequency_penalty = 0.2f, .logit_bias = {{3, 0.5f}}};
  expect_equal(ask(gpu, {request})[0].token_ids, ask(cpu, {request})[0].token_ids);
}
const Test penalties_test{"rules that the device does not have are the host's", penalties};

void slides() {
  const File file = any_model(gpt2_shape(), "f32");
  Engine cpu(file, {.threads = 1}), gpu(file, on_device());
  for (const Overflow overflow : {Overflow::slide, Overflow::shift}) {
    Request request{.prompt = prompt_of(44, 2), .max_tokens = 8, .overflow = overflow};
    request.sampling.temperature = 0;
    expect_equal(ask(gpu, {request})[0].token_ids, ask(cpu, {request})[0].token_ids);
  }
}
const Test slides_test{"a window that slides or shifts past the context", slides};

void looked_into() {
  const File file = any_model(nanochat_shape(), "f32");
  Engine cpu(file, {.threads = 1}), gpu(file, on_device({.prefill_chunk = 7}));
  for (const Want look : {Want::states, Want::embedding, Want::attention}) {
    const Request request{.prompt = prompt_of(20, 3), .max_tokens = 0, .look = look, .layer = 1};
    const auto wanted = ask(cpu, {request})[0].shown.values;
    const auto got = ask(gpu, {request})[0].shown.values;
    expect_equal(got.size(), wanted.size());
    expect(!got.empty(), "there is something to see");
    for (size_t i = 0; i < got.size(); ++i) {
      if (!(std::fabs(got[i] - wanted[i]) <= 1e-4f))
        fail(join("look ", static_cast<int>(look), " at ", i, ": ", got[i], " ", wanted[i]));
    }
  }
}
const Test looked_into_test{"states, embeddings and attention are those of the processor", looked_into};

void shared_beginnings() {
  const File file = any_model(gpt2_shape(), "f16");
  Engine without(file, on_device({.prefix_cache = false})), engine(file, on_device());
  Request request = asked(1, 5);
  request.prompt = prompt_of(41, 4);
  const auto wanted = ask(without, {request})[0].token_ids;
  for (int i = 0; i < 3; ++i) expect_equal(ask(engine, {request})[0].token_ids, wanted);
  const auto tokens = request.prompt;
  const auto saved = engine.save_prefix(std::vector<int32_t>(tokens.begin(), tokens.begin() + 32));
  Engine other(file, on_device());
  other.load_prefix(std::vector<int32_t>(tokens.begin(), tokens.begin() + 32), saved);
  const Event event = ask(other, {request})[0];
  expect_equal(event.token_ids, wanted);
  expect_equal(event.cached_tokens, 32);
}
const Test shared_beginnings_test{"pages are shared, copied, saved and loaded", shared_beginnings};

void no_layers() {
  ModelConfig config = gpt2_shape();
  config.n_layer = 0;
  Engine engine(any_model(config, "f32"), on_device());  // a model without layers has pages of no bytes
  expect_equal(ask(engine, {asked(1, 4)})[0].token_ids.size(), size_t{4});
}
const Test no_layers_test{"a model without layers", no_layers};

}  // namespace
}  // namespace pygpt::test
