// SPDX-License-Identifier: Apache-2.0
// Runs a fuzzer's entry point over its seeds and over saved inputs: `fuzz-NAME DIR|FILE…`.
// `fuzz-NAME --write-seeds DIR` saves the seeds.
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "fuzz.h"
#include "write_seeds.h"

namespace {

void run(const std::byte* data, size_t size) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(data), size);
}

bool run_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (file.bad() || !file.is_open()) {
    std::fprintf(stderr, "%s: cannot be read\n", path.c_str());
    return false;
  }
  std::fprintf(stderr, "%s\n", path.c_str());  // the last line names the input that aborted
  run(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size());
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--write-seeds") == 0)
    return bb::fuzz::write_seeds(argv[2]);
  size_t inputs = 0;
  for (const auto& [name, bytes] : bb::fuzz::seeds()) {
    std::fprintf(stderr, "seed %s\n", name.c_str());
    run(bytes.data(), bytes.size());
    ++inputs;
  }
  for (int i = 1; i < argc; ++i) {
    if (!std::filesystem::is_directory(argv[i])) {
      if (!run_file(argv[i])) return 1;
      ++inputs;
      continue;
    }
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
      if (!run_file(entry.path())) return 1;
      ++inputs;
    }
  }
  if (inputs == 0) {
    std::fprintf(stderr, "no input at all: nothing was tested\n");
    return 1;
  }
  std::printf("%zu inputs\n", inputs);
  return 0;
}
