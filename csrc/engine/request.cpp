#include "engine/request.h"

namespace pygpt {

const char* finish_name(Finish finish) {
  switch (finish) {
    case Finish::stop: return "stop";
    case Finish::length: return "length";
    case Finish::cancelled: return "cancelled";
    case Finish::error: return "error";
  }
  return "?";
}

const char* fault_name(Fault fault) {
  switch (fault) {
    case Fault::none: return "none";
    case Fault::numerical: return "numerical";
    case Fault::constraint: return "constraint";
    case Fault::memory: return "memory";
    case Fault::deadline: return "deadline";
    case Fault::other: return "other";
  }
  return "?";
}

}  // namespace pygpt
