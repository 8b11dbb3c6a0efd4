/* SPDX-License-Identifier: Apache-2.0 */
#include <blockbridge/blockbridge.h>
#include <stdio.h>
#include <string.h>

/* The sizes are the ABI: a struct may grow at its end in a later release, never change. */
#define SIZE(type, bytes) typedef char size_of_##type[(sizeof(type) == (bytes)) ? 1 : -1]
SIZE(bb_runtime_options, 16);
SIZE(bb_device_info, 32);
SIZE(bb_io, 568);
SIZE(bb_array_options, 72);
SIZE(bb_export_options, 104);
SIZE(bb_host_secret, 24);
SIZE(bb_discovery_options, 32);
SIZE(bb_device_functions, 88);
SIZE(bb_io_counters, 112);

int main(void) {
  bb_runtime_options options = BB_RUNTIME_OPTIONS_INIT;
  bb_io io = BB_IO_INIT;
  bb_device_info info = BB_DEVICE_INFO_INIT;
  bb_array_options array = BB_ARRAY_OPTIONS_INIT;
  bb_export_options exported = BB_EXPORT_OPTIONS_INIT;
  bb_discovery_options discovery = BB_DISCOVERY_OPTIONS_INIT;
  bb_device_functions functions = BB_DEVICE_FUNCTIONS_INIT;
  if (functions.struct_size != sizeof functions || functions.block_size_bytes != 512) return 1;
  if (options.struct_size != 16 || io.struct_size != sizeof io || info.struct_size != sizeof info ||
      array.struct_size != sizeof array || exported.struct_size != sizeof exported ||
      discovery.struct_size != sizeof discovery) {
    return 1;
  }
  printf("libblockbridge %s\n", bb_version());
  return strcmp(bb_code_name(BB_NOT_FOUND), "not_found") != 0;
}
