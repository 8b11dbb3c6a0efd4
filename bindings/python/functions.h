// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <blockbridge/blockbridge.h>
#include <pybind11/pybind11.h>

#include <string>

namespace py = pybind11;

// A device whose functions are the methods of a Python object. Called on the device's threads;
// made, and called, with the interpreter's lock.
class PyFunctions {
 public:
  struct Shape {
    uint64_t size_bytes = 0;
    uint32_t block_size_bytes = 0;
    uint32_t threads = 0;
    std::string name;
  };

  // They hold the object until `closed`.
  static bb_device_functions of(const py::object& object, const Shape& shape) {
    bb_device_functions functions = BB_DEVICE_FUNCTIONS_INIT;
    functions.size_bytes = shape.size_bytes;
    functions.block_size_bytes = shape.block_size_bytes;
    functions.threads = shape.threads;
    functions.name = shape.name.c_str();
    functions.read = [](void* arg, uint64_t offset, void* into, size_t length) {
      return lend(arg, "read", offset, [=] {
        return py::memoryview::from_memory(into, static_cast<py::ssize_t>(length));
      });
    };
    if (py::hasattr(object, "write")) {
      functions.write = [](void* arg, uint64_t offset, const void* from, size_t length) {
        return lend(arg, "write", offset, [=] {
          return py::memoryview::from_memory(from, static_cast<py::ssize_t>(length));
        });
      };
    }
    if (py::hasattr(object, "flush")) {
      functions.flush = [](void* arg) {
        return call(arg, [](const py::object& of) { of.attr("flush")(); });
      };
    }
    if (py::hasattr(object, "discard")) {
      functions.discard = [](void* arg, uint64_t offset, uint64_t length) {
        return call(arg, [&](const py::object& of) { of.attr("discard")(offset, length); });
      };
    }
    if (py::hasattr(object, "write_zeroes")) {
      functions.write_zeroes = [](void* arg, uint64_t offset, uint64_t length) {
        return call(arg, [&](const py::object& of) { of.attr("write_zeroes")(offset, length); });
      };
    }
    functions.closed = [](void* arg) {
      py::gil_scoped_acquire held;
      delete static_cast<PyFunctions*>(arg);
    };
    functions.arg = new PyFunctions(object);
    return functions;
  }

 private:
  explicit PyFunctions(py::object object) : object_(std::move(object)) {}

  // Memory is lent for the length of the call: a view that is kept is of no use afterwards. What
  // was made of it (numpy.frombuffer) cannot be taken back: the documentation warns.
  template <typename Make>
  static int lend(void* arg, const char* name, uint64_t offset, Make make) {
    return call(arg, [&](const py::object& of) {
      py::memoryview view = make();
      of.attr(name)(offset, view);
      view.attr("release")();
    });
  }

  // blockbridge.Error keeps its code; whatever else is raised is an I/O error, and is told unless
  // it is the system's.
  template <typename Use>
  static int call(void* arg, Use use) {
    py::gil_scoped_acquire held;
    try {
      use(static_cast<PyFunctions*>(arg)->object_);
      return BB_OK;
    } catch (py::error_already_set& raised) {
      py::object number = py::getattr(raised.value(), "number", py::none());
      if (py::isinstance<py::int_>(number)) return number.cast<int>();
      if (!raised.matches(PyExc_OSError)) raised.discard_as_unraisable("blockbridge: a device");
      return BB_IO_ERROR;
    }
  }

  py::object object_;
};
