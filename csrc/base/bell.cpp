#include "base/bell.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#ifdef __linux__
#include <sys/eventfd.h>
#endif

namespace pygpt {
namespace {

[[maybe_unused]] void set_flags(int descriptor) {
  fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK);
  fcntl(descriptor, F_SETFD, FD_CLOEXEC);
}

}  // namespace

Bell::Bell() {
#ifdef __linux__
  read_end_ = write_end_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (read_end_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
#else
  int ends[2];
  if (pipe(ends) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
  read_end_ = ends[0];
  write_end_ = ends[1];
  set_flags(read_end_);
  set_flags(write_end_);
#endif
}

Bell::~Bell() {
  if (write_end_ != read_end_) close(write_end_);
  close(read_end_);
}

std::vector<int64_t> Bell::take() {
  std::vector<int64_t> taken;
  const std::lock_guard lock(mutex_);
  taken.reserve(listed_.capacity());  // the capacities are swapped, too
  taken.swap(listed_);
  uint64_t count = 0;
  // Nothing to read means that nobody rang: a pause that ended by itself.
  [[maybe_unused]] const auto bytes = read(read_end_, &count, sizeof count);
  rung_ = false;
  paused_ = true;
  return taken;
}

bool Bell::resume() {
  const std::lock_guard lock(mutex_);
  paused_ = false;
  return !listed_.empty();
}

void Bell::attach() {
  const std::lock_guard lock(mutex_);
  if (attached_ + 1 > listed_.capacity()) listed_.reserve(2 * (attached_ + 1));
  ++attached_;
}

void Bell::detach() noexcept {
  const std::lock_guard lock(mutex_);
  --attached_;
}

void Bell::list(int64_t ticket, bool urgent, bool anew) noexcept {
  const std::lock_guard lock(mutex_);
  if (anew && listed_.size() < listed_.capacity()) listed_.push_back(ticket);
  if (rung_ || (paused_ && !urgent)) return;
  rung_ = true;
  const uint64_t one = 1;
  // A full pipe has been rung already; nothing else can go wrong with a descriptor that is open.
  [[maybe_unused]] const auto bytes = write(write_end_, &one, sizeof one);
}

}  // namespace pygpt
