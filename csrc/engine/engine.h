#pragma once

#include <atomic>
#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <thread>
#include <vector>

#include "backend/backend.h"
#include "backend/cuda/device.h"
#include "engine/scheduler.h"
#include "engine/ticket.h"
#include "model/file.h"

namespace pygpt {

struct EngineOptions {
  int threads = 0;  // 0: chosen
  std::string isa;  // empty: the best
  std::string kv_dtype = "auto";
  int64_t max_context = 0;    // 0: the model's
  int64_t prefill_chunk = 0;  // 0: chosen
  int64_t max_running = 0;    // 0: chosen
  int64_t max_waiting = -1;   // sequences beyond those that run; -1: any number
  bool prefix_cache = true;   // what has been read is not read again
  std::string device = "cpu";
  std::shared_ptr<cuda::Device> cuda_device = nullptr;  // instead of the machine's; for tests
};

/// Runs requests on one model. Its thread is the team's worker 0; it sleeps while there is nothing to do.
/// Every method may be called from any thread.
class Engine {
 public:
  /// Throws Error, OutOfMemory, DeviceError.
  Engine(std::shared_ptr<const ModelFile> file, const EngineOptions& options);

  /// Cancels what runs and joins the threads. Not to be called in a forked child, where they do not exist.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// Takes all of the requests, behind those that came before, or none. Throws EngineClosed; Overloaded; Error for a
  /// request that would read or write out of bounds.
  std::shared_ptr<Ticket> submit(std::vector<Request> requests, Waiting waiting = {});

  /// What the cache holds of a prompt that has been read, and back again into the cache of this or a like engine.
  /// Waits for the end of the running step. Throws EngineClosed; Error, OutOfMemory: see Reuse.
  std::vector<std::byte> save_prefix(std::vector<int32_t> tokens);
  void load_prefix(std::vector<int32_t> tokens, std::span<const std::byte> bytes);

  void close();

  const Backend::Info& info() const noexcept { return backend_->info(); }
  int64_t context_length() const noexcept { return limits_.context_length; }
  int64_t prefill_chunk() const noexcept { return chunk_; }
  int64_t max_running() const noexcept { return max_running_; }
  int64_t max_waiting() const noexcept { return max_waiting_; }

 private:
  void make_backend(const EngineOptions& options);
  void make_cpu_backend(const EngineOptions& options, int kv_type, int32_t max_rows);
  void start_thread();
  void check_request(Request& request) const;
  std::vector<Place> take_places(size_t count);
  void run_loop() noexcept;
  void between_steps(std::packaged_task<void()> errand);
  void run_errands();
  bool wait_for_work();
  void admit();
  void step(Results& results);
  void finish_all(Finish finish, Fault fault, std::string_view message) noexcept;

  std::shared_ptr<const ModelFile> file_;
  SequenceLimits limits_{};
  int64_t chunk_ = 0;
  int64_t max_running_ = 0;
  int64_t max_waiting_ = -1;
  std::atomic<int64_t> taken_ = 0;  // sequences that have not ended
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Scheduler> scheduler_;

  std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<std::unique_ptr<Sequence>> inbox_;
  std::vector<std::packaged_task<void()>> errands_;  // for the engine's thread, which alone knows the cache
  bool closing_ = false;
  std::mutex close_mutex_;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace pygpt
