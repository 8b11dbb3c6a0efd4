// SPDX-License-Identifier: Apache-2.0
// The daemons' YAML configurations. Input: one byte that says whose, then the text. Whatever it is,
// the answer is a configuration or an error that names the file.
#include "backplane/config.h"

#include "base/check.h"
#include "fuzz.h"

namespace bb {
namespace {

std::vector<std::byte> seed(unsigned kind, std::string_view text) {
  std::vector<std::byte> bytes{static_cast<std::byte>(kind)};
  bytes.insert(bytes.end(), as_bytes(text).begin(), as_bytes(text).end());
  return bytes;
}

}  // namespace

const size_t fuzz::kInputMax = 160;

fuzz::Seeds fuzz::seeds() {
  return {
      {"disknode",
       seed(0, "name: a\nlisten: [:1]\ncontrol: :2\ndrives:\n- {path: /a, create: 1G}\n")},
      {"disknode-more", seed(0,
                             "name: a\ndomain: d\nenclosure: e\nlisten:\n  - '[::1]:4420'\n"
                             "control: ':2'\ndrives:\n  - path: /a\n    slot: \"3\"\n")},
      {"dataplane", seed(1,
                         "name: a\nstore: file:/s\ncontrol: unix:/c\n"
                         "backplanes: [{name: x, control: :3}]\n")},
      {"anchors", seed(1, "name: &n a\nstore: *n\n? [a]\n: |\n  x\n--- \n")},
  };
}

}  // namespace bb

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bb;
  if (size == 0) return 0;
  std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  Status status;
  if ((data[0] & 1) == 0) {
    status = backplane::parse_disknode_config(text, "file.yaml").status();
  } else {
    status = backplane::parse_dataplane_config(text, "file.yaml").status();
  }
  BB_CHECK(status.ok() || status.text().starts_with("file.yaml"), "{}", status.to_string());
  return 0;
}
