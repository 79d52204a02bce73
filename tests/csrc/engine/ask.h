#pragma once

#include <vector>

#include "check.h"
#include "engine/engine.h"

namespace pygpt::test {

/// What the engine answers, an event for each request. Fails where one of them fails.
inline std::vector<Event> ask(Engine& engine, std::vector<Request> requests) {
  const auto ticket = engine.submit(std::move(requests));
  std::vector<Event> events;
  for (int turns = 0; events.empty(); ++turns) {
    events = ticket->poll(1, true);
    expect(turns < 200, "the engine does not answer");
  }
  for (const Event& event : events) expect(event.fault == Fault::none, event.message);
  return events;
}

}  // namespace pygpt::test
