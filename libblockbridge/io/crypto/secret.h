// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace bb::io {

// Bytes nobody else may see: wiped when they are let go of. Never logged, never compared with ==.
class Secret {
 public:
  Secret() = default;
  explicit Secret(size_t length_bytes) : bytes_(length_bytes) {}
  explicit Secret(ConstBytes bytes) : bytes_(bytes.begin(), bytes.end()) {}
  Secret(const Secret&) = default;
  Secret(Secret&& other) noexcept : bytes_(std::move(other.bytes_)) { other.bytes_.clear(); }
  Secret& operator=(Secret other) noexcept {
    bytes_.swap(other.bytes_);
    return *this;
  }
  ~Secret() { wipe(); }

  bool empty() const { return bytes_.empty(); }
  size_t size() const { return bytes_.size(); }
  std::byte* data() { return bytes_.data(); }
  const std::byte* data() const { return bytes_.data(); }
  Bytes bytes() { return bytes_; }
  ConstBytes bytes() const { return bytes_; }
  void shorten(size_t length_bytes);  // what is cut off is wiped
  void wipe();

 private:
  std::vector<std::byte> bytes_;
};

void wipe(Bytes bytes);
void wipe(std::string& text);

// Takes as long wherever the first difference is. False when the lengths differ.
bool same_secret(ConstBytes a, ConstBytes b);

// RFC 4648 with padding and nothing else: no blanks, no line ends. False when `text` is not that.
bool base64_decode(std::string_view text, Secret& into);
std::string base64_encode(ConstBytes bytes);

}  // namespace bb::io
