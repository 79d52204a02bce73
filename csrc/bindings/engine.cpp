#include "engine/engine.h"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <unistd.h>

#include <algorithm>

#include "bindings/module.h"

namespace pygpt {
namespace py = pybind11;
namespace {

/// The engine as Python holds it. In a forked child its threads do not exist: there it is left alone.
class EngineHandle {
 public:
  EngineHandle(std::shared_ptr<const ModelFile> file, const EngineOptions& options)
      : process_(getpid()), engine_(std::make_shared<Engine>(std::move(file), options)) {}

  ~EngineHandle() {
    if (getpid() != process_) {
      new std::shared_ptr<Engine>(std::move(engine_));  // joining would wait for ever, freeing could meet a held lock
      return;
    }
    close();
  }

  std::shared_ptr<Engine> get() const {
    if (!engine_) throw EngineClosed("the engine was closed");
    return engine_;
  }

  void close() {
    const std::shared_ptr<Engine> engine = std::move(engine_);
    engine_ = nullptr;
    const py::gil_scoped_release release;
    if (engine) engine->close();
  }

 private:
  pid_t process_;
  std::shared_ptr<Engine> engine_;
};

/// A ticket as Python holds it: letting go of it cancels what still runs.
class TicketHandle {
 public:
  explicit TicketHandle(std::shared_ptr<Ticket> ticket) : ticket_(std::move(ticket)) {}
  TicketHandle(TicketHandle&&) = default;
  ~TicketHandle() {
    if (ticket_) ticket_->cancel(-1);
  }
  Ticket& get() const { return *ticket_; }

 private:
  std::shared_ptr<Ticket> ticket_;
};

/// An event with its numbers as arrays that own them.
struct EventView {
  Event event;
  py::object logits = py::none();
  py::object shown = py::none();
};

py::object owning_array(std::vector<float>&& values, const std::vector<py::ssize_t>& shape) {
  if (values.empty()) return py::none();
  auto* owned = new std::vector<float>(std::move(values));
  const py::capsule owner(owned, [](void* memory) { delete static_cast<std::vector<float>*>(memory); });
  return py::array_t<float>(shape, owned->data(), owner);
}

py::object logits_array(Event& event) {
  const auto rows = static_cast<py::ssize_t>(event.logits.size()) / std::max<int64_t>(event.logits_width, 1);
  return owning_array(std::move(event.logits), {rows, static_cast<py::ssize_t>(event.logits_width)});
}

py::object shown_array(Event& event) {
  return owning_array(std::move(event.shown.values), {event.shown.shape.begin(), event.shown.shape.end()});
}

/// Waits without the GIL. Not by gil_scoped_release: where the interpreter ends meanwhile, PyEval_RestoreThread ends
/// this thread by unwinding it, and a destructor in its way would abort the process.
std::vector<Event> wait_for_news(Ticket& ticket, double timeout_s, bool until_done) {
  std::vector<Event> events;
  PyThreadState* state = PyEval_SaveThread();
  try {
    events = ticket.poll(timeout_s, until_done);
  } catch (...) {
    PyEval_RestoreThread(state);
    throw;
  }
  PyEval_RestoreThread(state);
  return events;
}

std::vector<EventView> poll(const TicketHandle& ticket, double timeout_s, bool until_done) {
  std::vector<Event> events = wait_for_news(ticket.get(), timeout_s, until_done);
  std::vector<EventView> views;
  for (Event& event : events) {
    py::object logits = logits_array(event);
    py::object shown = shown_array(event);
    views.push_back({std::move(event), std::move(logits), std::move(shown)});
  }
  return views;
}

Overflow overflow_of(const std::string& name) {
  if (name == "stop") return Overflow::stop;
  if (name == "slide") return Overflow::slide;
  if (name == "shift") return Overflow::shift;
  throw py::value_error("overflow must be \"stop\", \"slide\" or \"shift\"");
}

const char* overflow_name(Overflow overflow) {
  return overflow == Overflow::stop ? "stop" : overflow == Overflow::slide ? "slide" : "shift";
}

Want look_of(const std::string& name) {
  if (name == "nothing") return Want::nothing;
  if (name == "states") return Want::states;
  if (name == "embedding") return Want::embedding;
  if (name == "attention") return Want::attention;
  throw py::value_error("look must be \"nothing\", \"states\", \"embedding\" or \"attention\"");
}

/// A field of the request's sampling rules as an attribute of the request.
template <class T>
void bind_rule(py::class_<Request>& request, const char* name, T SamplingParams::* field) {
  request.def_property(
      name, [field](const Request& r) { return r.sampling.*field; },
      [field](Request& r, T value) { r.sampling.*field = std::move(value); });
}

void bind_request(py::module_& module) {
  py::class_<Request> request(module, "Request");
  request.def(py::init([](const py::kwargs& fields) {
    auto made = std::make_unique<Request>();
    const py::object self = py::cast(made.get(), py::return_value_policy::reference);
    for (const auto& [name, value] : fields) py::setattr(self, name, value);
    return made;
  }));
  request.def_readwrite("prompt", &Request::prompt)
      .def_readwrite("max_tokens", &Request::max_tokens)
      .def_property(
          "overflow", [](const Request& r) { return overflow_name(r.overflow); },
          [](Request& r, const std::string& name) { r.overflow = overflow_of(name); })
      .def_readwrite("n_keep", &Request::n_keep)
      .def_readwrite("logprobs", &Request::logprobs)
      .def_readwrite("prompt_logprobs", &Request::prompt_logprobs)
      .def_readwrite("logits", &Request::logits)
      .def_property("look", nullptr, [](Request& r, const std::string& name) { r.look = look_of(name); })
      .def_readwrite("layer", &Request::layer);
  bind_rule(request, "temperature", &SamplingParams::temperature);
  bind_rule(request, "top_k", &SamplingParams::top_k);
  bind_rule(request, "top_k_ties", &SamplingParams::top_k_ties);
  bind_rule(request, "top_p", &SamplingParams::top_p);
  bind_rule(request, "min_p", &SamplingParams::min_p);
  bind_rule(request, "repetition_penalty", &SamplingParams::repetition_penalty);
  bind_rule(request, "presence_penalty", &SamplingParams::presence_penalty);
  bind_rule(request, "frequency_penalty", &SamplingParams::frequency_penalty);
  bind_rule(request, "logit_bias", &SamplingParams::logit_bias);
  bind_rule(request, "allowed_token_ids", &SamplingParams::allowed_token_ids);
  bind_rule(request, "min_tokens", &SamplingParams::min_tokens);
  bind_rule(request, "stop_token_ids", &SamplingParams::stop_token_ids);
  bind_rule(request, "seed", &SamplingParams::seed);
  bind_rule(request, "sample", &SamplingParams::sample);
}

void bind_events(py::module_& module) {
  py::class_<TokenLogprobs>(module, "TokenLogprobs")
      .def_readonly("token_id", &TokenLogprobs::token_id)
      .def_readonly("logprob", &TokenLogprobs::logprob)
      .def_readonly("top", &TokenLogprobs::top);
  const auto error = [](const EventView& e) {
    return e.event.fault == Fault::none ? py::object(py::none()) : py::object(py::str(fault_name(e.event.fault)));
  };
  const auto finish = [](const EventView& e) {
    return e.event.finish ? py::object(py::str(finish_name(*e.event.finish))) : py::object(py::none());
  };
  py::class_<EventView>(module, "Event")
      .def_property_readonly("index", [](const EventView& e) { return e.event.index; })
      .def_property_readonly("token_ids", [](const EventView& e) { return e.event.token_ids; })
      .def_property_readonly("logprobs", [](const EventView& e) { return e.event.logprobs; })
      .def_property_readonly("prompt_logprobs", [](const EventView& e) { return e.event.prompt_logprobs; })
      .def_readonly("logits", &EventView::logits)
      .def_readonly("shown", &EventView::shown)
      .def_property_readonly("finish_reason", finish)
      .def_property_readonly("stop_token", [](const EventView& e) { return e.event.stop_token; })
      .def_property_readonly("error", error)
      .def_property_readonly("message", [](const EventView& e) { return e.event.message; })
      .def_property_readonly("prompt_tokens_dropped", [](const EventView& e) { return e.event.prompt_tokens_dropped; })
      .def_property_readonly("cached_tokens", [](const EventView& e) { return e.event.cached_tokens; })
      .def_property_readonly("queue_s", [](const EventView& e) { return e.event.queue_s; })
      .def_property_readonly("prefill_s", [](const EventView& e) { return e.event.prefill_s; })
      .def_property_readonly("decode_s", [](const EventView& e) { return e.event.decode_s; });
  py::class_<TicketHandle>(module, "Ticket")
      .def("poll", &poll, py::arg("timeout_s"), py::arg("until_done") = false)
      .def(
          "cancel", [](const TicketHandle& t, int64_t index) { t.get().cancel(index); }, py::arg("index") = -1)
      .def_property_readonly("done", [](const TicketHandle& t) { return t.get().done(); });
}

std::unique_ptr<EngineHandle> open_engine(std::shared_ptr<ModelFile> file, int threads, std::string isa,
                                          std::string kv_dtype, int64_t max_context, int64_t prefill_chunk,
                                          int64_t max_running, int64_t max_waiting, bool prefix_cache,
                                          std::string device) {
  const py::gil_scoped_release release;
  return std::make_unique<EngineHandle>(
      std::move(file), EngineOptions{threads, std::move(isa), std::move(kv_dtype), max_context, prefill_chunk,
                                     max_running, max_waiting, prefix_cache, std::move(device)});
}

py::dict info_of(const EngineHandle& handle) {
  const auto engine = handle.get();
  const Backend::Info& backend = engine->info();
  py::dict info;
  info["device"] = backend.device;
  info["threads"] = backend.workers;
  info["isa"] = backend.isa;
  info["kv_dtype"] = backend.kv_dtype;
  info["context_length"] = engine->context_length();
  info["weight_bytes"] = backend.weight_bytes;
  info["kv_page_bytes"] = backend.page_bytes;
  info["kv_pages"] = backend.page_capacity;
  info["kv_page_tokens"] = kPageRows;
  info["prefill_chunk"] = engine->prefill_chunk();
  info["max_running"] = engine->max_running();
  info["max_waiting"] =
      engine->max_waiting() < 0 ? py::object(py::none()) : py::object(py::int_(engine->max_waiting()));
  return info;
}

TicketHandle submit(const EngineHandle& handle, std::vector<Request> requests, std::optional<double> timeout_s,
                    std::shared_ptr<Bell> bell, int64_t id, bool until_done) {
  const auto engine = handle.get();
  const py::gil_scoped_release release;
  return TicketHandle(engine->submit(std::move(requests), {timeout_s, std::move(bell), id, until_done}));
}

py::bytes save_prefix(const EngineHandle& handle, std::vector<int32_t> tokens) {
  const auto engine = handle.get();
  std::vector<std::byte> bytes;
  {
    const py::gil_scoped_release release;
    bytes = engine->save_prefix(std::move(tokens));
  }
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void load_prefix(const EngineHandle& handle, std::vector<int32_t> tokens, const py::bytes& bytes) {
  const auto engine = handle.get();
  const std::string_view view = bytes;
  const py::gil_scoped_release release;
  engine->load_prefix(std::move(tokens), std::as_bytes(std::span(view)));
}

}  // namespace

void bind_engine(py::module_& module) {
  bind_request(module);
  bind_events(module);
  py::class_<Bell, std::shared_ptr<Bell>>(module, "Bell")
      .def(py::init<>())
      .def("fileno", &Bell::descriptor)
      .def("take", &Bell::take)
      .def("resume", &Bell::resume);
  py::class_<EngineHandle>(module, "Engine")
      .def(py::init(&open_engine), py::arg("file"), py::kw_only(), py::arg("threads") = 0, py::arg("isa") = "",
           py::arg("kv_dtype") = "auto", py::arg("max_context") = 0, py::arg("prefill_chunk") = 0,
           py::arg("max_running") = 0, py::arg("max_waiting") = -1, py::arg("prefix_cache") = true,
           py::arg("device") = "cpu")
      .def("submit", &submit, py::arg("requests"), py::kw_only(), py::arg("timeout_s") = py::none(),
           py::arg("bell") = py::none(), py::arg("id") = 0, py::arg("until_done") = false)
      .def("save_prefix", &save_prefix, py::arg("tokens"))
      .def("load_prefix", &load_prefix, py::arg("tokens"), py::arg("bytes"))
      .def("close", &EngineHandle::close)
      .def_property_readonly("info", &info_of);
}

}  // namespace pygpt
