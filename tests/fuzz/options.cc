// SPDX-License-Identifier: Apache-2.0
// What every fuzzer runs with unless its command line or the environment says otherwise.
#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz.h"
#include "write_seeds.h"

// Inputs free what they take at once, so a short quarantine is enough, and one that fits a cache is
// twice as fast; stacks of allocations cost more than the decoders. To look at a finding:
// ASAN_OPTIONS=malloc_context_size=30.
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() {
  return "quarantine_size_mb=0:thread_local_quarantine_size_kb=64:malloc_context_size=0:"
         "detect_stack_use_after_return=0";
}

// The longest input worth its time: longer ones repeat what shorter ones reach.
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv);
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  static std::vector<char*> words(*argv, *argv + *argc);
  if (words.size() == 3 && std::string_view(words[1]) == "--write-seeds") {
    std::exit(bb::fuzz::write_seeds(words[2]));
  }
  static std::string limit = "-max_len=" + std::to_string(bb::fuzz::kInputMax);
  bool given = std::any_of(words.begin(), words.end(), [](const char* word) {
    return std::string_view(word).starts_with("-max_len=");
  });
  if (!given) words.push_back(limit.data());
  *argc = static_cast<int>(words.size());
  words.push_back(nullptr);
  *argv = words.data();
  return 0;
}
