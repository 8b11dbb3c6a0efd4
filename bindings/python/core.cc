// SPDX-License-Identifier: Apache-2.0
// The extension module blockbridge._core: pybind11 over the C interface. Blocking calls let other
// Python threads run (GIL released); asynchronous ones give an object with the outcome to a
// callable on the runtime's thread, from which blockbridge/__init__.py makes awaitables.
#include <blockbridge/bb.hpp>

#include <condition_variable>
#include <list>
#include <mutex>
#include <optional>

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "functions.h"

namespace py = pybind11;

namespace {

using NoGil = py::call_guard<py::gil_scoped_release>;

// A C-contiguous view of anything with the buffer protocol: bytes, bytearray, memoryview, numpy.
class Buffer {
 public:
  Buffer(const py::buffer& object, bool writable) : info_(object.request(writable)) {
    py::ssize_t expected = info_.itemsize;
    for (auto dim = info_.ndim; dim-- > 0;) {
      auto i = static_cast<size_t>(dim);
      if (info_.shape[i] > 1 && info_.strides[i] != expected) {
        throw bb::Error(BB_INVALID_ARGUMENT, "the buffer is not C-contiguous: copy it first");
      }
      expected *= info_.shape[i];
    }
  }
  void* data() const { return info_.ptr; }
  size_t size() const { return static_cast<size_t>(info_.size * info_.itemsize); }

 private:
  py::buffer_info info_;
};

// Calls that other threads are in the middle of, without the interpreter's lock: closing waits for
// them, and who comes later is refused.
class Calls {
 public:
  class Guard {
   public:
    explicit Guard(Calls& calls) : calls_(calls) {
      std::lock_guard lock(calls_.mutex_);
      if (calls_.closed_) throw bb::Error(BB_BAD_STATE, "the object is closed");
      ++calls_.running_;
    }
    ~Guard() {
      std::lock_guard lock(calls_.mutex_);
      if (--calls_.running_ == 0) calls_.ended_.notify_all();
    }
    Guard(const Guard&) = delete;

   private:
    Calls& calls_;
  };

  bool close() {  // false: it was closed before
    std::unique_lock lock(mutex_);
    if (closed_) return false;
    closed_ = true;
    ended_.wait(lock, [this] { return running_ == 0; });
    return true;
  }
  void reopen() {  // it could not be closed
    std::lock_guard lock(mutex_);
    closed_ = false;
  }

 private:
  std::mutex mutex_;
  std::condition_variable ended_;
  size_t running_ = 0;
  bool closed_ = false;
};

// What reads and writes, of an object that may be closed meanwhile.
struct PyIo {
  bb::DeviceView view;
  Calls& calls;
};

// close() from Python is explicit and idempotent; the destructor does it otherwise.
template <typename T>
class Closable {
 public:
  explicit Closable(T object) : object_(std::make_unique<T>(std::move(object))) {}
  // use(object), with the object open until it returns.
  template <typename Use>
  auto with(Use use) {
    Calls::Guard open(calls_);
    return use(*object_);
  }
  PyIo io() {
    return with([this](T& object) { return PyIo{object.io(), calls_}; });
  }
  Calls& calls() { return calls_; }
  T& get() { return *object_; }  // under a guard of calls()
  void close() {
    py::gil_scoped_release released;
    if (!calls_.close()) return;
    try {
      object_->close();
    } catch (...) {
      calls_.reopen();
      throw;
    }
    object_.reset();
  }
  ~Closable() {
    py::gil_scoped_release released;
    object_.reset();
  }

 private:
  std::unique_ptr<T> object_;
  Calls calls_;
};

py::bytes read(const PyIo& io, uint64_t offset, size_t length) {
  py::object bytes = py::reinterpret_steal<py::object>(
      PyBytes_FromStringAndSize(nullptr, static_cast<py::ssize_t>(length)));
  if (!bytes) throw py::error_already_set();
  void* memory = PyBytes_AS_STRING(bytes.ptr());
  {
    py::gil_scoped_release released;
    Calls::Guard open(io.calls);
    io.view.read(offset, memory, length);
  }
  return py::reinterpret_borrow<py::bytes>(bytes);
}

size_t read_into(const PyIo& io, uint64_t offset, const py::buffer& object) {
  Buffer buffer(object, true);
  py::gil_scoped_release released;
  Calls::Guard open(io.calls);
  io.view.read(offset, buffer.data(), buffer.size());
  return buffer.size();
}

size_t write(const PyIo& io, uint64_t offset, const py::buffer& object) {
  Buffer buffer(object, false);
  py::gil_scoped_release released;
  Calls::Guard open(io.calls);
  io.view.write(offset, buffer.data(), buffer.size());
  return buffer.size();
}

// One asynchronous I/O: holds the Python objects until the outcome has been told.
struct Submission {
  bb_io io = BB_IO_INIT;
  iovec iov{};
  std::unique_ptr<Buffer> buffer;  // pins the memory
  py::object owner;
  py::object done;  // done(code, text)

  static void on_done(void* arg, int code, const char* text) {
    py::gil_scoped_acquire held;
    std::unique_ptr<Submission> self(static_cast<Submission*>(arg));
    try {
      self->done(code, std::string(text));
    } catch (py::error_already_set& raised) {
      raised.discard_as_unraisable("blockbridge: completion");
    }
  }
};

void submit(const PyIo& io, bb_io_op op, uint64_t offset, const py::object& memory, uint64_t length,
            bool fua, py::object done) {
  auto submission = std::make_unique<Submission>();
  if (!memory.is_none()) {
    submission->buffer = std::make_unique<Buffer>(memory.cast<py::buffer>(), op == BB_IO_READ);
    submission->iov = {.iov_base = submission->buffer->data(),
                       .iov_len = submission->buffer->size()};
    submission->io.iov = &submission->iov;
    submission->io.iov_count = 1;
  }
  submission->owner = memory;
  submission->done = std::move(done);
  submission->io.op = op;
  submission->io.flags = fua ? BB_IO_FUA : 0;
  submission->io.offset_bytes = offset;
  submission->io.length_bytes = length;
  submission->io.done = Submission::on_done;
  submission->io.arg = submission.get();
  py::gil_scoped_release released;  // an early error calls on_done on this thread
  Calls::Guard open(io.calls);
  io.view.submit(submission.release()->io);  // from here on closing waits for it by itself
}

py::dict info_of(const PyIo& io) {
  bb_device_info info{};
  {
    py::gil_scoped_release released;
    Calls::Guard open(io.calls);
    info = io.view.info();
  }
  py::dict out;
  out["size_bytes"] = info.size_bytes;
  out["block_size_bytes"] = info.block_size_bytes;
  out["transfer_max_bytes"] = info.transfer_max_bytes;
  out["read_only"] = info.read_only != 0;
  out["volatile_cache"] = info.volatile_cache != 0;
  out["ready"] = info.ready != 0;
  return out;
}

using PyRuntime = Closable<bb::Runtime>;
using PyDevice = Closable<bb::Device>;
using PyArray = Closable<bb::Array>;
using PyExport = Closable<bb::Export>;
using PyDiskNode = Closable<bb::DiskNode>;

template <typename Make>
auto without_gil(Make make) {
  py::gil_scoped_release released;
  return make();
}

// Tells a Python callable of every change, from the runtime's thread.
class PyDiscovery {
 public:
  PyDiscovery(PyRuntime& runtime, const std::string& address, const std::string& host,
              const std::string& psk, py::object changed)
      : changed_(std::move(changed)) {
    bb::DiscoveryOptions options{host, psk};
    py::gil_scoped_release released;
    runtime.with([&](bb::Runtime& in) { watch_.emplace(in, address, on_changed, this, options); });
  }
  ~PyDiscovery() { close(); }
  void close() {
    py::gil_scoped_release released;
    watch_.reset();
  }

 private:
  static void on_changed(void* arg, const char* json) {
    py::gil_scoped_acquire held;
    try {
      static_cast<PyDiscovery*>(arg)->changed_(std::string(json));
    } catch (py::error_already_set& raised) {
      raised.discard_as_unraisable("blockbridge: discovery");
    }
  }
  py::object changed_;
  std::optional<bb::Discovery> watch_;
};

void bind_errors(py::module_& m) {
  // blockbridge.Error and one subclass a code live in __init__.py; it registers the thrower here.
  static py::object raise;
  m.def("set_error_factory", [](py::object factory) { raise = std::move(factory); });
  py::register_exception_translator([](std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const bb::Error& e) {
      py::object error = raise(static_cast<int>(e.code()), std::string(e.what()));
      PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.ptr())), error.ptr());
    }
  });
}

std::vector<std::pair<uint64_t, uint64_t>> extents_of(const PyIo& io, uint64_t offset,
                                                      uint64_t length) {
  Calls::Guard open(io.calls);
  std::vector<std::pair<uint64_t, uint64_t>> list;
  for (const bb_extent& each : io.view.extents(offset, length)) {
    list.emplace_back(each.length_bytes, each.flags);
  }
  return list;
}

void reserve(const PyIo& io, uint32_t action, uint32_t type, uint32_t flags, uint64_t key,
             uint64_t other_key) {
  bb_reservation_command command = BB_RESERVATION_COMMAND_INIT;
  command.action = action;
  command.type = type;
  command.flags = flags;
  command.key = key;
  command.other_key = other_key;
  Calls::Guard open(io.calls);
  io.view.reserve(command);
}

// Methods of the objects of bb.hpp, of objects that may be closed meanwhile.
template <typename T, typename Result, typename... Args>
auto guarded(Result (T::*call)(Args...) const) {
  return [call](Closable<T>& self, Args... args) {
    return self.with([&](T& object) { return (object.*call)(args...); });
  };
}

template <typename T, typename Result, typename... Args>
auto guarded(Result (T::*call)(Args...)) {
  return [call](Closable<T>& self, Args... args) {
    return self.with([&](T& object) { return (object.*call)(args...); });
  };
}

template <typename Result, typename... Args>
auto guarded(Result (bb::DeviceView::*call)(Args...) const) {
  return [call](const PyIo& io, Args... args) {
    Calls::Guard open(io.calls);
    return (io.view.*call)(args...);
  };
}

py::dict counters_dict(const bb_io_counters& counters) {
  py::dict out;
  out["connections"] = counters.connections;
  out["in_flight"] = counters.in_flight;
  out["reads"] = counters.reads;
  out["writes"] = counters.writes;
  out["others"] = counters.others;
  out["read_bytes"] = counters.read_bytes;
  out["written_bytes"] = counters.written_bytes;
  out["other_bytes"] = counters.other_bytes;
  out["read_errors"] = counters.read_errors;
  out["write_errors"] = counters.write_errors;
  out["other_errors"] = counters.other_errors;
  out["digest_errors"] = counters.digest_errors;
  out["reconnects"] = counters.reconnects;
  out["retries"] = counters.retries;
  return out;
}

// The method `counters` of `Self`, without holding up other Python threads.
template <typename Self, typename Call>
auto counters_of(Call call) {
  return [counters = guarded(call)](Self& self) {
    return counters_dict(without_gil([&] { return counters(self); }));
  };
}

void bind_io(py::module_& m) {
  py::class_<PyIo>(m, "Io")
      .def("read", read)
      .def("read_into", read_into)
      .def("write", write)
      .def("flush", guarded(&bb::DeviceView::flush), NoGil())
      .def("discard", guarded(&bb::DeviceView::discard), NoGil())
      .def("write_zeroes", guarded(&bb::DeviceView::write_zeroes), NoGil())
      .def("extents", extents_of, NoGil())
      .def("submit", submit)
      .def("paths_json", guarded(&bb::DeviceView::paths_json), NoGil())
      .def("reserve", reserve, NoGil())
      .def("reservation_json", guarded(&bb::DeviceView::reservation_json), NoGil())
      .def("info", info_of)
      .def("counters", counters_of<const PyIo>(&bb::DeviceView::counters))
      .def("stats_json", guarded(&bb::DeviceView::stats_json), NoGil());
  py::enum_<bb_io_op>(m, "IoOp")
      .value("READ", BB_IO_READ)
      .value("WRITE", BB_IO_WRITE)
      .value("FLUSH", BB_IO_FLUSH)
      .value("DISCARD", BB_IO_DISCARD)
      .value("WRITE_ZEROES", BB_IO_WRITE_ZEROES);
}

bb_export_tls tls_of(const std::string& text) {
  if (text == "off") return BB_EXPORT_TLS_OFF;
  if (text == "allowed") return BB_EXPORT_TLS_ALLOWED;
  if (text == "required") return BB_EXPORT_TLS_REQUIRED;
  throw bb::Error(BB_INVALID_ARGUMENT, "tls=\"" + text + "\" is none of off, allowed, required");
}

bb_export_kind kind_of(const std::string& text) {
  if (text == "nvme-tcp") return BB_EXPORT_NVME_TCP;
  if (text == "nbd") return BB_EXPORT_NBD;
  if (text == "ublk") return BB_EXPORT_UBLK;
  throw bb::Error(BB_INVALID_ARGUMENT, "\"" + text + "\" is none of nvme-tcp, nbd, ublk");
}

void bind_export(py::module_& m) {
  using bb::ExportOptions;
  py::class_<bb::HostSecret>(m, "HostSecret")
      .def(py::init([](const std::string& host_nqn, const std::string& secret,
                       const std::string& psk) { return bb::HostSecret{host_nqn, secret, psk}; }));
  py::class_<ExportOptions>(m, "ExportOptions")
      .def(py::init<>())
      .def_readwrite("name", &ExportOptions::name)
      .def_property("tls", nullptr,
                    [](ExportOptions& self, const std::string& text) { self.tls = tls_of(text); })
      .def_readwrite("allowed_hosts", &ExportOptions::allowed_hosts)
      .def_readwrite("host_secrets", &ExportOptions::host_secrets)
      .def_readwrite("ctrl_secret", &ExportOptions::ctrl_secret_file)
      .def_readwrite("read_only", &ExportOptions::nbd_read_only)
      .def_readwrite("exclusive", &ExportOptions::nbd_exclusive)
      .def_readwrite("tls_certificate", &ExportOptions::nbd_tls_certificate_file)
      .def_readwrite("tls_key", &ExportOptions::nbd_tls_key_file)
      .def_readwrite("tls_ca", &ExportOptions::nbd_tls_ca_file);
  py::class_<PyExport>(m, "Export")
      .def(py::init([](const PyIo& io, const std::string& kind, const std::string& listen,
                       const ExportOptions& options) {
        bb_export_kind number = kind_of(kind);
        py::gil_scoped_release released;
        Calls::Guard open(io.calls);
        return std::make_unique<PyExport>(bb::Export(io.view, number, listen, options));
      }))
      .def("uri", guarded(&bb::Export::uri))
      .def("counters", counters_of<PyExport>(&bb::Export::counters))
      .def("stats_json", guarded(&bb::Export::stats_json), NoGil())
      .def("close", &PyExport::close);
}

void bind_array(py::module_& m) {
  auto open_array = [](PyRuntime& runtime, const std::vector<PyDevice*>& members,
                       const std::string& name, const std::string& store, bool assume_clean,
                       bool fresh, const std::string& level, uint32_t copies, uint64_t chunk_bytes,
                       const std::string& integrity, uint64_t slow_fail_ms) {
    py::gil_scoped_release released;
    std::list<Calls::Guard> open;
    std::vector<const bb::Device*> devices;
    for (PyDevice* member : members) {
      open.emplace_back(member->calls());
      devices.push_back(&member->get());
    }
    bb::ArrayOptions options{.assume_clean = assume_clean,
                             .level = level,
                             .copies = copies,
                             .chunk_bytes = chunk_bytes,
                             .integrity = integrity,
                             .slow_fail_ms = slow_fail_ms};
    return runtime.with([&](bb::Runtime& in) {
      return std::make_unique<PyArray>(
          fresh ? bb::Array::create(in, devices, name, store, options)
                : bb::Array::assemble(in, devices, name, store, options));
    });
  };
  auto replace_member = [](PyArray& array, const std::string& uuid, PyDevice& fresh, bool force) {
    Calls::Guard open(fresh.calls());
    array.with([&](bb::Array& in) { in.replace_member(uuid, fresh.get(), force); });
  };
  py::class_<PyArray>(m, "Array")
      .def(py::init(open_array))
      .def("io", &PyArray::io, py::keep_alive<0, 1>())
      .def("info_json", guarded(&bb::Array::info_json), NoGil())
      .def("fail_member", guarded(&bb::Array::fail_member), NoGil())
      .def("readmit_member", guarded(&bb::Array::readmit_member), NoGil())
      .def("replace_member", replace_member, NoGil())
      .def("remove_member", guarded(&bb::Array::remove_member), NoGil())
      .def("set_resync_rate", guarded(&bb::Array::set_resync_rate), NoGil())
      .def("scrub_json", guarded(&bb::Array::scrub_json), NoGil())
      .def("scrub_resume_json", guarded(&bb::Array::scrub_resume_json), NoGil())
      .def("scrub_pause", guarded(&bb::Array::scrub_pause), NoGil())
      .def("scrub_cancel", guarded(&bb::Array::scrub_cancel), NoGil())
      .def("scrub_info_json", guarded(&bb::Array::scrub_info_json), NoGil())
      .def("wait_clean", guarded(&bb::Array::wait_clean), NoGil())
      .def("close", &PyArray::close);
}

void bind_objects(py::module_& m) {
  py::enum_<bb_engine>(m, "Engine")
      .value("auto", BB_ENGINE_AUTO)
      .value("io_uring", BB_ENGINE_IO_URING)
      .value("epoll", BB_ENGINE_EPOLL);
  py::class_<PyRuntime>(m, "Runtime")
      .def(py::init([](bb_engine engine, bool spin) {
        return std::make_unique<PyRuntime>(bb::Runtime(false, engine, spin));
      }))
      .def("engine", guarded(&bb::Runtime::engine))
      .def("metrics", guarded(&bb::Runtime::metrics), NoGil())
      .def("close", &PyRuntime::close);
  py::class_<PyFunctions::Shape>(m, "Shape")
      .def(py::init<uint64_t, uint32_t, uint32_t, std::string>());
  py::class_<PyDevice>(m, "Device")
      .def(py::init([](PyRuntime& runtime, const std::string& uri) {
        py::gil_scoped_release released;
        return runtime.with(
            [&](bb::Runtime& in) { return std::make_unique<PyDevice>(bb::Device(in, uri)); });
      }))
      .def(py::init(
          [](PyRuntime& runtime, const py::object& object, const PyFunctions::Shape& shape) {
            bb_device_functions functions = PyFunctions::of(object, shape);
            try {
              py::gil_scoped_release released;
              return runtime.with([&](bb::Runtime& in) {
                return std::make_unique<PyDevice>(bb::Device(in, functions));
              });
            } catch (const bb::Error&) {
              functions.closed(functions.arg);
              throw;
            }
          }))
      .def("io", &PyDevice::io, py::keep_alive<0, 1>())
      .def("close", &PyDevice::close);
  py::class_<PyDiscovery>(m, "Discovery")
      .def(py::init<PyRuntime&, const std::string&, const std::string&, const std::string&,
                    py::object>())
      .def("close", &PyDiscovery::close);
  py::class_<PyDiskNode>(m, "DiskNode")
      .def(py::init([](PyRuntime& runtime, const std::string& path) {
        py::gil_scoped_release released;
        return runtime.with(
            [&](bb::Runtime& in) { return std::make_unique<PyDiskNode>(bb::DiskNode(in, path)); });
      }))
      .def("info_json", guarded(&bb::DiskNode::info_json), NoGil())
      .def("close", &PyDiskNode::close);
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "libblockbridge's C interface; use the package blockbridge instead";
  bind_errors(m);
  bind_io(m);
  bind_objects(m);
  bind_export(m);
  bind_array(m);
  m.def("local_drives_json", [] { return without_gil([] { return bb::local_drives_json(); }); });
  m.def("version", [] { return std::string(bb_version()); });
  m.def("code_name", [](int code) { return std::string(bb_code_name(code)); });
  m.def("log_level_set",
        [](const std::string& level) { bb::check(bb_log_level_set(level.c_str())); });
}
