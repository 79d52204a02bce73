// What only a GPU that the processor plays can show.

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/probe.h"

#include "check.h"
#include "emulated/emulated_device.h"
#include "engine/ask.h"
#include "engine/harness.h"
#include "model/any_model.h"

namespace pygpt::test {
namespace {

using emulated::EmulatedDevice;
using emulated::Order;

EngineOptions with(std::shared_ptr<EmulatedDevice> device) {
  EngineOptions options;
  options.device = "cuda";
  options.cuda_device = std::move(device);
  return options;
}

Request request(int32_t seed, int64_t max_tokens) {
  Request made{.prompt = prompt_of(20, seed), .max_tokens = max_tokens, .logits = true};
  made.sampling = {.top_k = 20, .top_p = 0.9f, .seed = 3};
  return made;
}

void no_barrier_is_missing() {
  for (const ModelConfig& config : {gpt2_shape(), nanochat_shape()}) {
    for (const char* format : {"f16", "q8"}) {
      const auto file = any_model(config, format);
      std::vector<Event> both;
      for (const Order order : {Order::ascending, Order::descending}) {
        Engine engine(file, with(std::make_shared<EmulatedDevice>(order)));
        both.push_back(ask(engine, {request(1, 12)})[0]);
      }
      expect_equal(both[0].token_ids, both[1].token_ids);
      expect(both[0].logits == both[1].logits, join(format, ": the order of the threads shows"));
    }
  }
}
const Test no_barrier_test{"D10: no result depends on the order of the threads or on what memory held",
                           no_barrier_is_missing};

void recorded_once() {
  const auto device = std::make_shared<EmulatedDevice>();
  const auto file = any_model(gpt2_shape(), "f16");
  Engine engine(file, with(device));
  static_cast<void>(ask(engine, {request(1, 1)}));
  ask(engine, {request(2, 20)});
  const int once = device->recordings;
  ask(engine, {request(3, 20)});
  expect_equal(device->recordings, once, "a step with as many rows is in a recording already");
  expect(device->launches >= 2 * 19, join("steps come from recordings: ", device->launches));
}
const Test recorded_once_test{"a step is recorded once for each number of rows", recorded_once};

void little_memory() {
  const auto file = any_model(gpt2_shape(), "f16");
  const auto open = [&](int64_t bytes) {
    const Engine engine(file, with(std::make_shared<EmulatedDevice>(Order::ascending, bytes)));
  };
  expect(std::string(expect_throws<OutOfMemory>([&] { open(1000); }).what()).find("the model needs") == 0,
         "for the weights");
  int64_t enough = 1000;
  int refusals = 0;
  while (true) {  // at each place where it may run out
    try {
      open(enough);
      break;
    } catch (const OutOfMemory&) {
      ++refusals;
      enough += enough / 10;
    }
  }
  expect(refusals > 10, join("refused ", refusals, " times, opened with ", enough));
}
const Test little_memory_test{"D8: too little memory is refused, wherever it ends, and given back", little_memory};

void fewer_pages() {
  const auto file = any_model(gpt2_shape(), "f32");
  int64_t bytes = 1 << 18;
  const auto all = [&](int64_t memory) -> int64_t {
    try {
      const Engine engine(file, with(std::make_shared<EmulatedDevice>(Order::ascending, memory)));
      return engine.info().page_capacity;
    } catch (const OutOfMemory&) {
      return 0;
    }
  };
  while (all(bytes) == 0) bytes += 1 << 14;
  expect(all(bytes) < all(int64_t{1} << 30), "pages for fewer sequences than may run");
}
const Test fewer_pages_test{"with little memory there are fewer pages, for one context at least", fewer_pages};

void copies() {
  EmulatedDevice device;
  expect(cuda::copy_bandwidth(device, 1000, 3) > 0, "bytes a second");
  expect_throws<Error>([&] { static_cast<void>(cuda::copy_bandwidth(device, 0, 3)); }, "no bytes");
}
const Test copies_test{"copies on the device are measured", copies};

void unknown_devices() {
  const auto file = any_model(gpt2_shape(), "f32");
  EngineOptions options;
  options.device = "tpu";
  expect_throws<Error>([&] { const Engine engine(file, options); }, "a device that nobody knows");
}
const Test unknown_devices_test{"an unknown device is refused", unknown_devices};

}  // namespace
}  // namespace pygpt::test
