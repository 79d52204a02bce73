#include "base/bell.h"

#include <poll.h>

#include <atomic>
#include <thread>

#include "check.h"

namespace pygpt::test {
namespace {

using Ids = std::vector<int64_t>;

bool rings(const Bell& bell, int timeout_ms = 0) {
  pollfd watched{bell.descriptor(), POLLIN, 0};
  return poll(&watched, 1, timeout_ms) == 1;
}

void listing() {
  Bell bell;
  bell.attach();
  bell.attach();
  expect(!rings(bell), "silent at first");
  bell.list(7, false, true);
  bell.list(8, false, true);
  bell.list(7, true, false);
  expect(rings(bell), "rings");
  expect_equal(bell.take(), (Ids{7, 8}), "each once");
  expect(!rings(bell), "silent when taken");
  expect_equal(bell.take(), Ids{});
}
const Test listing_test{"a bell rings until the list of tickets is taken", listing};

void pausing() {
  Bell bell;
  bell.attach();
  bell.list(1, false, true);
  static_cast<void>(bell.take());
  bell.list(1, false, true);
  expect(!rings(bell), "not in a pause");
  expect(bell.resume(), "but it is known when the pause ends");
  expect_equal(bell.take(), Ids{1});
  bell.list(1, true, true);
  expect(rings(bell), "what is urgent rings in a pause");
  static_cast<void>(bell.take());
  expect(!bell.resume() && !rings(bell), "nothing new");
  bell.list(1, false, true);
  expect(rings(bell), "rings again");
}
const Test pausing_test{"in a pause only what is urgent rings, and nothing is lost", pausing};

void across_threads() {
  constexpr int64_t kTickets = 50;
  Bell bell;
  for (int64_t i = 0; i < kTickets; ++i) bell.attach();
  std::atomic<int64_t> polled = 0;
  std::thread engine([&] {
    for (int64_t i = 0; i < 20000; ++i) {
      while (i - polled >= kTickets) std::this_thread::yield();  // a ticket is listed once until it is polled
      bell.list(i, i % 3 == 0, true);
    }
  });
  int64_t next = 0;
  while (next < 20000) {
    if (!rings(bell, 1) && !bell.resume()) continue;
    for (const int64_t id : bell.take()) {
      expect_equal(id, next++, "in order, each once");
      ++polled;
    }
  }
  engine.join();
}
const Test across_threads_test{"one thread lists, one takes", across_threads};

}  // namespace
}  // namespace pygpt::test
