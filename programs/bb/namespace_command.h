// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/control.h"

namespace bb::program {

// `bb namespace` and `bb ana`: what bb-serve's control socket lets be changed of its NVMe/TCP
// target while hosts are connected.
class NamespaceCommand {
 public:
  void add_to(CLI::App& app);
  bool given() const { return *namespaces_ || *ana_; }
  int run(const ControlOptions& control) const;

 private:
  int list(const ControlOptions& control) const;
  int change(const ControlOptions& control, const char* method, Json params) const;
  int list_ana(const ControlOptions& control) const;

  CLI::App* namespaces_ = nullptr;
  CLI::App* add_ = nullptr;
  CLI::App* remove_ = nullptr;
  CLI::App* replace_ = nullptr;
  CLI::App* ana_ = nullptr;
  CLI::App* set_ = nullptr;
  std::string subsystem_;
  std::string device_;
  std::string uuid_;
  std::string state_;
  uint32_t nsid_ = 0;
  uint32_t group_ = 1;
  uint32_t port_ = 0;
  bool read_only_ = false;
};

}  // namespace bb::program
