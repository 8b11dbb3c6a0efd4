// SPDX-License-Identifier: Apache-2.0
#include "bb-serve-devices.h"

#include "io/device_uri.h"
#include "io/stats_collect.h"

namespace bb::program {

io::Task<Result<std::vector<io::Device*>>> Devices::open(const std::vector<std::string>* uris) {
  std::vector<io::Device*> all;
  for (size_t i = 0; i < uris->size(); ++i) {
    auto open = [this, i, uris]() -> io::Task<Result<io::Device*>> {
      BB_CO_ASSIGN(std::unique_ptr<io::Device> device,
                   co_await io::open_device(loops_.at(i), (*uris)[i]));
      Owned& here = at(loops_.place(i));
      here.push_back(std::move(device));
      co_return here.back().get();
    };
    BB_CO_ASSIGN(io::Device * device, co_await loops_.run(i, std::move(open)));
    all.push_back(device);
  }
  co_return all;
}

io::Task<void> Devices::collect(io::StatsReport* into) {
  for (size_t place = 0; place < at_.size(); ++place) {
    auto collect = [this, place, into]() -> io::Task<Status> {
      for (const auto& device : at(place)) io::collect_device(*device, into);
      co_return Status();
    };
    (void)co_await loops_.run(place, std::move(collect));
  }
}

io::Task<Status> Devices::close() {
  Status first;
  for (size_t place = 0; place < at_.size(); ++place) {
    auto close = [this, place, &first]() -> io::Task<Status> {
      for (const auto& device : at(place)) {
        Status closed = co_await device->close();
        if (first.ok()) first = closed;
      }
      at(place).clear();
      co_return Status();
    };
    (void)co_await loops_.run(place, std::move(close));
  }
  co_return first;
}

}  // namespace bb::program
