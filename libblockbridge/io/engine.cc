// SPDX-License-Identifier: Apache-2.0
#include "io/engine.h"

#include <utility>

namespace bb::io {

std::string_view engine_name(EngineKind kind) {
  switch (kind) {
    case EngineKind::kAuto:
      return "auto";
    case EngineKind::kUring:
      return "io_uring";
    case EngineKind::kEpoll:
      return "epoll";
  }
  return "unknown";
}

Result<EngineKind> parse_engine(std::string_view name) {
  for (EngineKind kind : {EngineKind::kAuto, EngineKind::kUring, EngineKind::kEpoll}) {
    if (name == engine_name(kind)) return kind;
  }
  return error(Code::k_invalid_argument, "engine \"{}\" is none of auto, io_uring, epoll",
               name.substr(0, 64));
}

void EngineOpQueue::push_back(EngineOp& op) {
  op.next = nullptr;
  (first_ == nullptr ? first_ : last_->next) = &op;
  last_ = &op;
}

void EngineOpQueue::append(EngineOpQueue& others) {
  if (others.empty()) return;
  (first_ == nullptr ? first_ : last_->next) = others.first_;
  last_ = others.last_;
  others = {};
}

EngineOp* EngineOpQueue::pop_front() {
  EngineOp* op = first_;
  if (op != nullptr) first_ = op->next;
  return op;
}

bool EngineOpQueue::remove(EngineOp& op) {
  EngineOp* before = nullptr;
  for (EngineOp* one = first_; one != nullptr; before = std::exchange(one, one->next)) {
    if (one != &op) continue;
    (before == nullptr ? first_ : before->next) = op.next;
    if (last_ == &op) last_ = before;
    return true;
  }
  return false;
}

}  // namespace bb::io
