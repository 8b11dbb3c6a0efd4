// SPDX-License-Identifier: Apache-2.0
#include "raid/parity.h"

#include <isa-l.h>

#include <array>
#include <cstring>

#include "base/check.h"

namespace bb::raid {
namespace {

constexpr size_t kTableBytes = 32;  // ISA-L's, for one coefficient
constexpr uint32_t kBlocksMax = kMembersMax;

// ISA-L reads through pointers to non-const.
unsigned char* raw(const std::byte* bytes) {
  return reinterpret_cast<unsigned char*>(const_cast<std::byte*>(bytes));
}

void check_length(size_t bytes) {
  BB_CHECK(bytes % kParityAlignBytes == 0, "parity of {} bytes, no multiple of {}", bytes,
           kParityAlignBytes);
}

// Row `row` of the matrix that makes all blocks of the data: the unit matrix, then P's and Q's.
void matrix_row(const ParityCode& code, uint32_t row, unsigned char* into) {
  for (uint32_t i = 0; i < code.data(); ++i) {
    bool unit = row < code.data();
    into[i] = unit ? static_cast<unsigned char>(row == i) : code.coefficient(row - code.data(), i);
  }
}

}  // namespace

ParityCode::ParityCode(uint32_t data, uint32_t parity) : data_(data), parity_(parity) {
  BB_CHECK(data >= 1 && parity >= 1 && parity <= kParityMax && data + parity <= kBlocksMax,
           "parity code {}+{}", data, parity);
  std::vector<unsigned char> factors;
  for (uint32_t which = 0; which < parity; ++which) {
    for (uint32_t i = 0; i < data; ++i) factors.push_back(coefficient(which, i));
  }
  tables_.resize(kTableBytes * factors.size());
  ec_init_tables(static_cast<int>(data), static_cast<int>(parity), factors.data(), tables_.data());
}

uint8_t ParityCode::coefficient(uint32_t which, uint32_t index) const {
  unsigned char power = 1;
  for (uint32_t i = 0; which == 1 && i < index; ++i) power = gf_mul(power, 2);
  return power;
}

void ParityCode::encode(const std::byte* const* data, std::byte* const* parity,
                        size_t bytes) const {
  check_length(bytes);
  std::array<void*, kBlocksMax> all;
  for (uint32_t i = 0; i < data_; ++i) all[i] = raw(data[i]);
  for (uint32_t i = 0; i < parity_; ++i) all[data_ + i] = parity[i];
  int count = static_cast<int>(data_ + parity_);
  int length = static_cast<int>(bytes);
  if (data_ == 1) {  // ISA-L wants two sources: of one, both parities are itself
    for (uint32_t i = 0; i < parity_; ++i) std::memcpy(parity[i], data[0], bytes);
    return;
  }
  int failed =
      parity_ == 1 ? xor_gen(count, length, all.data()) : pq_gen(count, length, all.data());
  BB_CHECK(failed == 0, "parity of {} blocks of {} bytes: unaligned?", data_, bytes);
}

void ParityCode::update(uint32_t index, const std::byte* delta, std::byte* const* parity,
                        size_t bytes) const {
  check_length(bytes);
  if (parity[0] != nullptr) xor_into(parity[0], delta, bytes);
  if (parity_ < 2 || parity[1] == nullptr) return;
  unsigned char* tables = const_cast<unsigned char*>(tables_.data()) + kTableBytes * data_;
  gf_vect_mad(static_cast<int>(bytes), static_cast<int>(data_), static_cast<int>(index), tables,
              raw(delta), raw(parity[1]));
}

void xor_into(std::byte* into, const std::byte* from, size_t bytes) {
  check_length(bytes);
  void* all[] = {into, raw(from), into};
  int failed = xor_gen(3, static_cast<int>(bytes), all);
  BB_CHECK(failed == 0, "xor of {} bytes: unaligned?", bytes);
}

Result<Reconstruction> Reconstruction::plan(const ParityCode& code, uint64_t lost_mask) {
  uint32_t blocks = code.data() + code.parity();
  Reconstruction plan;
  for (uint32_t block = 0; block < blocks; ++block) {
    bool lost = (lost_mask >> block & 1) != 0;
    if (lost) {
      plan.lost_.push_back(block);
    } else if (plan.sources_.size() < code.data()) {
      plan.sources_.push_back(block);
    }
  }
  if (plan.sources_.size() < code.data()) {
    return error(Code::k_invalid_argument, "{} of {} blocks are lost, and {} may be",
                 plan.lost_.size(), blocks, code.parity());
  }
  size_t width = code.data();
  std::vector<unsigned char> there(width * width);
  std::vector<unsigned char> inverse(width * width);
  for (size_t i = 0; i < width; ++i) matrix_row(code, plan.sources_[i], &there[i * width]);
  int singular = gf_invert_matrix(there.data(), inverse.data(), static_cast<int>(width));
  BB_CHECK(singular == 0, "parity code {}+{}: cannot solve", code.data(), code.parity());
  std::vector<unsigned char> factors(plan.lost_.size() * width);
  std::vector<unsigned char> wanted(width);
  for (size_t l = 0; l < plan.lost_.size(); ++l) {
    matrix_row(code, plan.lost_[l], wanted.data());
    for (size_t to = 0; to < width; ++to) {
      unsigned char sum = 0;
      for (size_t i = 0; i < width; ++i) sum ^= gf_mul(wanted[i], inverse[i * width + to]);
      factors[l * width + to] = sum;
    }
  }
  plan.tables_.resize(kTableBytes * factors.size());
  ec_init_tables(static_cast<int>(width), static_cast<int>(plan.lost_.size()), factors.data(),
                 plan.tables_.data());
  return plan;
}

void Reconstruction::run(const std::byte* const* sources, std::byte* const* lost,
                         size_t bytes) const {
  check_length(bytes);
  std::array<unsigned char*, kBlocksMax> from;
  std::array<unsigned char*, kParityMax> into;
  for (size_t i = 0; i < sources_.size(); ++i) from[i] = raw(sources[i]);
  for (size_t i = 0; i < lost_.size(); ++i) into[i] = raw(lost[i]);
  ec_encode_data(static_cast<int>(bytes), static_cast<int>(sources_.size()),
                 static_cast<int>(lost_.size()), const_cast<unsigned char*>(tables_.data()),
                 from.data(), into.data());
}

}  // namespace bb::raid
