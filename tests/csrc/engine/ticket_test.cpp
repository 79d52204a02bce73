#include "engine/ticket.h"

#include <atomic>
#include <chrono>
#include <limits>
#include <thread>

#include "check.h"

namespace pygpt::test {
namespace {

using Clock = std::chrono::steady_clock;

Event tokens_event(int64_t index, std::vector<int32_t> tokens, std::optional<Finish> finish = {}) {
  Event event;
  event.index = index;
  event.token_ids = std::move(tokens);
  event.finish = finish;
  return event;
}

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

void merges() {
  Ticket ticket(3);
  ticket.publish(tokens_event(1, {1, 2}));
  ticket.publish(tokens_event(1, {3}));
  ticket.publish(tokens_event(0, {9}));
  auto events = ticket.poll(0, false);
  expect_equal(events.size(), 2u);
  expect(events[0].index == 0 && events[1].index == 1, "in the order of the requests");
  expect_equal(events[1].token_ids, (std::vector<int32_t>{1, 2, 3}));
  expect(ticket.poll(0, false).empty(), "news are told once");
  ticket.publish(tokens_event(1, {4}, Finish::stop));
  events = ticket.poll(0, false);
  expect(events.size() == 1 && events[0].token_ids == std::vector<int32_t>{4} && events[0].finish == Finish::stop,
         "later news");
}
const Test merges_test{"a poll returns all news since the last one, once, by request", merges};

void until_done() {
  Ticket ticket(2);
  ticket.publish(tokens_event(0, {1}));
  expect(ticket.poll(0.01, true).empty(), "not before all have ended");
  ticket.publish(tokens_event(0, {2}, Finish::length));
  expect(ticket.poll(0.01, true).empty() && !ticket.done(), "one is left");
  ticket.publish(tokens_event(1, {}, Finish::error));
  const auto events = ticket.poll(0, true);
  expect(ticket.done() && events.size() == 2 && events[0].token_ids == std::vector<int32_t>{1, 2}, "all at once");
  expect(ticket.poll(0, true).empty(), "and nothing more");
}
const Test until_done_test{"until_done waits for the end of every request", until_done};

void timeouts() {
  Ticket ticket(1);
  for (const double timeout_s : {0.0, -1.0, -1e300, std::numeric_limits<double>::quiet_NaN()}) {
    expect(ticket.poll(timeout_s, false).empty(), "at once");
  }
  const auto start = Clock::now();
  expect(ticket.poll(0.05, true).empty(), "at the timeout");
  expect(seconds_since(start) >= 0.05, "not before");
  for (const double timeout_s : {1e9, 1e300, std::numeric_limits<double>::infinity()}) {
    Ticket waited(1);
    std::thread engine([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      waited.publish(tokens_event(0, {5}, Finish::length));
    });
    const auto events = waited.poll(timeout_s, true);
    engine.join();
    expect_equal(events.size(), 1u, join("waiting for ", timeout_s, " seconds"));
  }
}
const Test timeouts_test{"a poll waits its timeout, neither less nor for ever, whatever number it is", timeouts};

void empty() {
  Ticket ticket(0);
  expect(ticket.done() && ticket.poll(0, true).empty(), "no request");
}
const Test empty_test{"a ticket of no requests is done", empty};

void cancelling() {
  Ticket ticket(3);
  ticket.cancel(1);
  ticket.cancel(99);
  expect(!ticket.cancelled(0) && ticket.cancelled(1) && !ticket.cancelled(2), "one");
  ticket.cancel(-1);
  expect(ticket.cancelled(0) && ticket.cancelled(2), "all");
}
const Test cancelling_test{"one request or all can be cancelled", cancelling};

void bells() {
  const auto bell = std::make_shared<Bell>();
  using Ids = std::vector<int64_t>;
  {
    Ticket streamed(2, {.bell = bell, .id = 5});
    streamed.publish(tokens_event(0, {1}));
    streamed.publish(tokens_event(1, {1}));
    expect_equal(bell->take(), Ids{5}, "listed once until it is polled");
    streamed.publish(tokens_event(0, {2}));
    expect_equal(bell->take(), Ids{}, "not polled yet");
    expect_equal(streamed.poll(0, false).size(), 2u);
    streamed.publish(tokens_event(0, {3}, Finish::stop));
    expect_equal(bell->take(), Ids{5}, "listed again");
  }
  Ticket whole(2, {.bell = bell, .id = 6, .until_done = true});
  whole.publish(tokens_event(0, {1}, Finish::stop));
  expect_equal(bell->take(), Ids{}, "one is left");
  whole.publish(tokens_event(1, {1}, Finish::stop));
  expect_equal(bell->take(), Ids{6}, "at the end of all");
}
const Test bells_test{"a bell lists a ticket with news once, and with until_done at the end of all", bells};

void deadlines() {
  const auto now = Ticket::Clock::now();
  expect(!Ticket(1).late(now + std::chrono::hours(24 * 3650)), "never without a timeout");
  Ticket ticket(1, {.timeout_s = 10});
  expect(!ticket.late(now + std::chrono::seconds(9)) && ticket.late(Ticket::Clock::now() + std::chrono::seconds(10)),
         "after ten seconds");
  expect(Ticket(1, {.timeout_s = 0}).late(Ticket::Clock::now()), "at once");
  expect(!Ticket(1, {.timeout_s = 1e300}).late(now), "no overflow");
}
const Test deadlines_test{"a ticket is late when its time is over", deadlines};

void across_threads() {
  constexpr int kTokens = 2000;
  Ticket ticket(2);
  std::atomic<int> cancelled_after = -1;
  std::thread engine([&] {
    for (int i = 0; i < kTokens; ++i) {
      ticket.publish(tokens_event(0, {i}, i + 1 == kTokens ? std::optional(Finish::length) : std::nullopt));
      if (ticket.cancelled(1) && cancelled_after < 0) {
        cancelled_after = i;
        ticket.publish(tokens_event(1, {}, Finish::cancelled));
      }
      if (i % 100 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    while (!ticket.cancelled(1)) std::this_thread::yield();
    if (cancelled_after < 0) ticket.publish(tokens_event(1, {}, Finish::cancelled));
  });
  std::thread canceller([&] { ticket.cancel(1); });
  std::vector<int32_t> seen;
  while (!ticket.done() || std::ssize(seen) < kTokens) {
    for (const Event& event : ticket.poll(0.05, false))
      seen.insert(seen.end(), event.token_ids.begin(), event.token_ids.end());
  }
  engine.join();
  canceller.join();
  for (int i = 0; i < kTokens; ++i) expect_equal(seen[static_cast<size_t>(i)], i, "no token is lost, doubled or moved");
}
const Test across_threads_test{"one thread publishes, one polls, one cancels", across_threads};

}  // namespace
}  // namespace pygpt::test
