/* SPDX-License-Identifier: Apache-2.0 */
#include <blockbridge/blockbridge.h>
#include <stdio.h>
#include <string.h>

/* The sizes are the ABI: a struct may grow at its end in a later release, never change. */
#define SIZE(type, bytes) typedef char size_of_##type[(sizeof(type) == (bytes)) ? 1 : -1]
SIZE(bb_runtime_options, 8);
SIZE(bb_device_info, 32);
SIZE(bb_io, 568);

int main(void) {
  bb_runtime_options options = BB_RUNTIME_OPTIONS_INIT;
  bb_io io = BB_IO_INIT;
  bb_device_info info = BB_DEVICE_INFO_INIT;
  if (options.struct_size != 8 || io.struct_size != sizeof io || info.struct_size != sizeof info) {
    return 1;
  }
  printf("libblockbridge %s\n", bb_version());
  return strcmp(bb_code_name(BB_NOT_FOUND), "not_found") != 0;
}
