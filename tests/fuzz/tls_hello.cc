// SPDX-License-Identifier: Apache-2.0
// The identities that a stranger's ClientHello offers. Input: a pre_shared_key extension.
#include "io/tls_hello.h"

#include "base/check.h"
#include "fuzz.h"

namespace bb {

const size_t fuzz::kInputMax = 600;

fuzz::Seeds fuzz::seeds() {
  Seeds all;
  std::vector<std::byte> extension = {std::byte{0}, std::byte{0}};
  for (std::string_view text : {"one", "NVMe0R01 nqn.2026-11.a:h nqn.2026-11.a:s"}) {
    extension.push_back(std::byte{0});
    extension.push_back(static_cast<std::byte>(text.size()));
    ConstBytes bytes = as_bytes(text);
    extension.insert(extension.end(), bytes.begin(), bytes.end());
    extension.resize(extension.size() + 4);
    extension[1] = static_cast<std::byte>(extension.size() - 2);
    all.emplace_back("identities-" + std::to_string(all.size() + 1), extension);
  }
  return all;
}

}  // namespace bb

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bb;
  std::string_view all(reinterpret_cast<const char*>(data), size);
  auto found = io::offered_identities(as_bytes(all));
  BB_CHECK(found.size() <= io::kOfferedIdentitiesMax, "{} identities", found.size());
  for (std::string_view each : found) {
    bool within = each.data() >= all.data() && each.data() + each.size() <= all.data() + all.size();
    BB_CHECK(within && !each.empty(), "an identity of {} bytes, outside", each.size());
  }
  return 0;
}
