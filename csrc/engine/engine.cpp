#include "engine/engine.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <new>
#include <system_error>

#include "backend/cpu/cpu_backend.h"
#include "backend/cuda/cuda_backend.h"
#include "base/error.h"
#include "base/machine.h"
#include "engine/look.h"

namespace pygpt {
namespace {

constexpr int64_t kDefaultChunk = 128;
constexpr int64_t kDefaultRunning = 64;
constexpr int64_t kMostThreads = 1024;
constexpr int64_t kSmallModel = 512 << 10;  // bytes: below, a second worker waits longer than it works

int64_t mebibytes(int64_t bytes) { return bytes >> 20; }

int choose_workers(int threads, int64_t weight_bytes) {
  check(threads >= 0 && threads <= kMostThreads, "threads must be from 1 to ", kMostThreads, ", got ", threads);
  if (threads > 0) return threads;
  return weight_bytes < kSmallModel ? 1 : available_cpus();
}

/// What the weights are, f16 beside quantised ones: rounding the cache then costs no more than they did.
int choose_kv_type(const std::string& name, int weight_format) {
  const char* weights = WeightFormats::kNames[static_cast<size_t>(weight_format)];
  const auto same = KvTypes::find(weights);
  if (name == "auto") return same ? *same : KvTypes::find(KvF16::kName).value();
  const auto type = KvTypes::find(name);
  check(type.has_value(), "kv_dtype \"", name, "\" is unknown; this version knows auto, ", KvTypes::listed());
  return *type;
}

/// Throws OutOfMemory if the rows that the engine computes in would not fit.
void check_workspace(int64_t bytes) {
  const int64_t available = available_memory();
  if (bytes <= available / 10 * 9) return;
  throw OutOfMemory(
      join("the engine's rows need ", mebibytes(bytes), " MiB, ", mebibytes(available),
           " MiB are available: free some memory, or pass a smaller max_context, max_running or threads"));
}

/// Pages for as many sequences as may run, or as many as half of the free memory holds; never fewer than one context.
int64_t choose_pages(int64_t page_bytes, int64_t context, int64_t sequences) {
  const int64_t per_sequence = pages_for(context);
  const int64_t available = available_memory();
  const auto needed = checked_multiply(per_sequence, page_bytes);
  if (!needed || *needed > available / 10 * 9) {
    throw OutOfMemory(join("the KV cache of one context of ", context, " tokens needs ",
                           needed ? mebibytes(*needed) : INT64_MAX, " MiB (", page_bytes, " bytes for each ", kPageRows,
                           " tokens), ", mebibytes(available), " MiB are available: pass a smaller max_context"));
  }
  if (page_bytes == 0) return per_sequence * sequences;  // a model without layers
  return std::clamp(available / 2 / page_bytes, per_sequence, per_sequence * sequences);
}

/// Pages that stay filled for who may want them again: an engine that serves one at a time must not grow to the size of
/// one that serves many.
int64_t choose_kept(int64_t pages, int64_t context) {
  return std::min(pages, std::max(pages / 8, 2 * pages_for(context)));
}

}  // namespace

Engine::Engine(std::shared_ptr<const ModelFile> file, const EngineOptions& options) : file_(std::move(file)) {
  const ModelConfig& config = file_->config();
  check(options.max_context >= 0 && options.max_context <= config.context_length,
        "max_context must be from 1 to the model's ", config.context_length, ", got ", options.max_context);
  check(options.prefill_chunk >= 0 && options.max_running >= 0, "prefill_chunk and max_running must not be negative");
  limits_ = {options.max_context > 0 ? options.max_context : config.context_length,
             static_cast<int32_t>(config.vocab_size)};
  chunk_ = std::min(options.prefill_chunk > 0 ? options.prefill_chunk : kDefaultChunk, limits_.context_length);
  max_waiting_ = std::max<int64_t>(options.max_waiting, -1);
  max_running_ = std::min<int64_t>(options.max_running > 0 ? options.max_running : kDefaultRunning, 4096);
  make_backend(options);
  const int64_t most_kept = options.prefix_cache ? choose_kept(info().page_capacity, limits_.context_length) : 0;
  scheduler_ = std::make_unique<Scheduler>(*backend_, Scheduler::Limits{chunk_, max_running_, most_kept});
  start_thread();
}

void Engine::start_thread() {
  try {
    thread_ = std::thread([this] {
      backend_->enter();
      run_loop();
    });
  } catch (const std::system_error&) {
    throw OutOfMemory(join("the system refuses a thread beside the ", info().workers,
                           " that run already: pass fewer threads, or raise the limit of processes or address space"));
  }
}

void Engine::make_backend(const EngineOptions& options) {
  const int weight_format = file_->tensor(file_->config().n_layer > 0 ? "h.0.attn.qkv" : "wte").format;
  const int kv_type = choose_kv_type(options.kv_dtype, weight_format);
  const auto max_rows = static_cast<int32_t>(chunk_ + max_running_);
  if (options.device == "cpu") return make_cpu_backend(options, kv_type, max_rows);
  check(options.device == "cuda", "device \"", options.device, "\" is unknown; this version knows cpu, cuda");
  auto device = options.cuda_device ? options.cuda_device : cuda::open_device();
  backend_ = std::make_unique<CudaBackend>(file_, std::move(device),
                                           CudaOptions{kv_type, limits_.context_length, max_running_, max_rows});
}

void Engine::make_cpu_backend(const EngineOptions& options, int kv_type, int32_t max_rows) {
  const PageLayout layout(file_->config(), kv_type);
  const int workers = choose_workers(options.threads, file_->size());
  check_workspace(CpuBackend::workspace_bytes(*file_, max_rows, max_running_, workers));
  backend_ = std::make_unique<CpuBackend>(
      file_, CpuOptions{
                 .workers = workers,
                 .isa = options.isa,
                 .kv_type = kv_type,
                 .page_capacity = choose_pages(layout.page_bytes, limits_.context_length, max_running_),
                 .max_rows = max_rows,
             });
}

Engine::~Engine() { close(); }

void Engine::close() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  arrived_.notify_all();
  const std::lock_guard lock(close_mutex_);  // two closers: the second waits for the first
  if (thread_.joinable()) thread_.join();
}

/// What memory safety needs. That a value makes sense was checked where its name is known, in Python.
void Engine::check_request(Request& request) const {
  const auto check_ids = [&](const std::vector<int32_t>& ids, const char* what) {
    for (const int32_t id : ids)
      check(id >= 0 && id < limits_.vocab_size, what, " holds ", id, ", the vocabulary has ", limits_.vocab_size,
            " tokens");
  };
  SamplingParams& sampling = request.sampling;
  check(!request.prompt.empty(), "the prompt is empty");
  check_ids(request.prompt, "the prompt");
  check_ids(sampling.allowed_token_ids, "allowed_token_ids");
  check_ids(sampling.stop_token_ids, "stop_token_ids");
  for (const auto& [id, bias] : sampling.logit_bias) {
    check(id >= 0 && id < limits_.vocab_size && std::isfinite(bias), "logit_bias holds ", id, ": ", bias);
  }
  check(sampling.temperature >= 0 && sampling.top_k >= 0 && sampling.top_p > 0 && sampling.min_p >= 0 &&
            sampling.repetition_penalty > 0 && std::isfinite(sampling.presence_penalty) &&
            std::isfinite(sampling.frequency_penalty),
        "a sampling parameter is out of range");
  const bool longer = std::ssize(request.prompt) > limits_.context_length;
  const bool whole = request.logits || request.prompt_logprobs >= 0 || request.look != Want::nothing;
  check(!longer || (request.overflow != Overflow::stop && !whole), "the prompt has ", request.prompt.size(),
        " tokens, the context ", limits_.context_length);
  request.n_keep = std::clamp<int64_t>(request.n_keep, 0, limits_.context_length - 1);
  std::ranges::sort(sampling.allowed_token_ids);
  auto& allowed = sampling.allowed_token_ids;
  allowed.erase(std::unique(allowed.begin(), allowed.end()), allowed.end());  // clang 14 cannot: std::ranges::unique
}

/// Counted from the submit on and not from when the engine's thread sees them, so that the bound is exact.
std::vector<Place> Engine::take_places(size_t count) {
  std::vector<Place> places;
  places.reserve(count);
  const std::lock_guard lock(mutex_);
  const int64_t taken = taken_;
  if (max_waiting_ >= 0 && taken + static_cast<int64_t>(count) > max_running_ + max_waiting_) {
    throw Overloaded(join("the engine has ", taken, " sequences and was asked for ", count, " more; it runs ",
                          max_running_, " at once and lets ", max_waiting_,
                          " wait: try again later, or open it with a larger max_waiting"));
  }
  for (size_t i = 0; i < count; ++i) places.emplace_back(taken_);
  return places;
}

std::shared_ptr<Ticket> Engine::submit(std::vector<Request> requests, Waiting waiting) {
  for (Request& request : requests) check_request(request);
  check_looks(requests, file_->config());
  std::vector<Place> places = take_places(requests.size());
  auto ticket = std::make_shared<Ticket>(requests.size(), std::move(waiting));
  std::vector<std::unique_ptr<Sequence>> sequences;
  for (Request& request : requests) {
    const size_t index = sequences.size();
    Shown shown = room_for_look(request, file_->config());
    sequences.push_back(std::make_unique<Sequence>(std::move(request), ticket, static_cast<int64_t>(index), limits_,
                                                   std::move(places[index])));
    sequences.back()->show_in(std::move(shown));
  }
  {
    const std::lock_guard lock(mutex_);
    if (closing_) throw EngineClosed("the engine was closed");
    inbox_.insert(inbox_.end(), std::make_move_iterator(sequences.begin()), std::make_move_iterator(sequences.end()));
  }
  arrived_.notify_all();
  return ticket;
}

std::vector<std::byte> Engine::save_prefix(std::vector<int32_t> tokens) {
  std::vector<std::byte> bytes;
  between_steps(std::packaged_task<void()>([&] { bytes = scheduler_->reuse().save(tokens); }));
  return bytes;
}

void Engine::load_prefix(std::vector<int32_t> tokens, std::span<const std::byte> bytes) {
  check(!tokens.empty() && std::ssize(tokens) <= limits_.context_length, "the prefix does not fit into the context");
  for (const int32_t id : tokens) check(id >= 0 && id < limits_.vocab_size, "the prefix holds the token ", id);
  between_steps(std::packaged_task<void()>([&] { scheduler_->reuse().load(tokens, bytes); }));
}

/// Has the engine's thread do something, and waits for it.
void Engine::between_steps(std::packaged_task<void()> errand) {
  std::future<void> done = errand.get_future();
  {
    const std::lock_guard lock(mutex_);
    if (closing_) throw EngineClosed("the engine was closed");
    errands_.push_back(std::move(errand));
  }
  arrived_.notify_all();
  try {
    done.get();
  } catch (const std::future_error&) {
    throw EngineClosed("the engine was closed");
  }
}

void Engine::run_errands() {
  std::vector<std::packaged_task<void()>> errands;
  {
    const std::lock_guard lock(mutex_);
    errands.swap(errands_);
  }
  for (auto& errand : errands) errand();  // what it throws, its caller gets
}

void Engine::run_loop() noexcept {
  use_exact_arithmetic();
  Results results;
  while (wait_for_work()) {
    try {
      admit();
      run_errands();
      step(results);
    } catch (const OutOfMemory& error) {
      finish_all(Finish::error, Fault::memory, error.what());
    } catch (const std::bad_alloc&) {
      finish_all(Finish::error, Fault::memory,
                 "the system is out of memory: run fewer requests at once, or pass a smaller max_context");
    } catch (const std::exception& error) {
      finish_all(Finish::error, Fault::other, error.what());
    }
  }
  finish_all(Finish::cancelled, Fault::none, "");
  const std::lock_guard lock(mutex_);
  errands_.clear();  // their callers hear that nobody will do them
}

/// Sleeps while there is nothing to do. False when the engine closes.
bool Engine::wait_for_work() {
  std::unique_lock lock(mutex_);
  if (scheduler_->idle()) arrived_.wait(lock, [&] { return closing_ || !inbox_.empty() || !errands_.empty(); });
  return !closing_;
}

/// Hands what has arrived to the scheduler. Where memory runs out, it stays where it is.
void Engine::admit() {
  const std::lock_guard lock(mutex_);
  scheduler_->add(inbox_);
}

/// Ends every request, whether the scheduler has it yet or not; but none that is submitted by who hears of it.
void Engine::finish_all(Finish finish, Fault fault, std::string_view message) noexcept {
  std::vector<std::unique_ptr<Sequence>> arrivals;
  {
    const std::lock_guard lock(mutex_);
    arrivals.swap(inbox_);
  }
  scheduler_->finish_all(finish, fault, message);
  for (auto& sequence : arrivals) {
    sequence->finish(finish, fault, message);
    sequence->publish();
  }
}

void Engine::step(Results& results) {
  Batch batch;
  if (!scheduler_->next(batch)) return;
  backend_->run(batch, Plan{.max_steps = static_cast<int>(scheduler_->steps())}, results);
  scheduler_->accept(results, limits_.vocab_size);
}

}  // namespace pygpt
