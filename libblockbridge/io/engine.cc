// SPDX-License-Identifier: Apache-2.0
#include "io/engine.h"

#include <utility>

namespace bb::io {

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
