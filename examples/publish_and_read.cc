// SPDX-License-Identifier: Apache-2.0
// Publishes a drive with NVMe/TCP and reads it over the network, both in this process.
#include <blockbridge/bb.hpp>

#include <cstdio>
#include <vector>

int main() {
  try {
    bb::Runtime runtime;
    bb::Device drive(runtime, "mem:64M");
    std::vector<char> out(4096, 'b');
    drive.io().write(8192, out.data(), out.size());

    bb::Export exported(drive.io(), BB_EXPORT_NVME_TCP, "127.0.0.1:0");
    std::printf("published %s\n", exported.uri().c_str());

    // Anybody on the network: another process, another machine, or a stock Linux kernel with
    // `nvme connect`. Header and data digests protect every byte on the way.
    bb::Device remote(runtime, exported.uri());
    std::vector<char> in(4096);
    remote.io().read(8192, in.data(), in.size());
    std::printf("read %zu bytes over the network: %s\n", in.size(),
                in == out ? "equal" : "different");
    return in == out ? 0 : 1;
  } catch (const bb::Error& error) {
    std::fprintf(stderr, "%s [%s]\n", error.what(), error.code_name());
    return 1;
  }
}
