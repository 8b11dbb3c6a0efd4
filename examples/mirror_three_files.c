/* SPDX-License-Identifier: Apache-2.0 */
/* A mirror over three files that survives the loss of one: create, write, lose, read, repair. */
#include <blockbridge/blockbridge.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(int code, const char* what) {
  if (code == BB_OK) return;
  fprintf(stderr, "%s: %s [%s]\n", what, bb_last_error(), bb_code_name(code));
  exit(1);
}

/* The uuid of the first member, from the array's state as JSON. */
static void first_member(bb_array* array, char uuid[37]) {
  char* json = NULL;
  must(bb_array_get_info(array, &json), "info");
  const char* members = strstr(json, "\"members\"");
  const char* found = members ? strstr(members, "\"uuid\":\"") : NULL;
  if (found == NULL) exit(1);
  memcpy(uuid, found + 8, 36);
  uuid[36] = '\0';
  bb_string_free(json);
}

int main(int argc, char** argv) {
  const char* directory = argc > 1 ? argv[1] : ".";
  bb_runtime* runtime = NULL;
  bb_device* drives[3] = {NULL, NULL, NULL};
  bb_array* array = NULL;
  char text[512], store[512], lost[37];

  must(bb_runtime_open(NULL, &runtime), "runtime");
  for (int i = 0; i < 3; ++i) {
    snprintf(text, sizeof text, "file:%s/drive%d.img?create=1&size=64M", directory, i);
    must(bb_device_open(runtime, text, &drives[i]), text);
  }

  bb_array_options options = BB_ARRAY_OPTIONS_INIT;
  snprintf(store, sizeof store, "file:%s/cluster.db", directory);
  options.name = "example";
  options.store = store;
  options.assume_clean = 1; /* new files: all zeroes, equal */
  must(bb_array_create(runtime, drives, 3, &options, &array), "create");

  bb_device* mirror = bb_array_device(array);
  char block[4096] = "three copies of this";
  must(bb_device_write(mirror, 0, block, sizeof block), "write");
  must(bb_device_flush(mirror), "flush");

  first_member(array, lost);
  must(bb_array_fail_member(array, lost), "fail");
  strcpy(block, "written while degraded");
  must(bb_device_write(mirror, 0, block, sizeof block), "write degraded");

  must(bb_array_readmit_member(array, lost), "readmit"); /* copies only what was missed */
  must(bb_array_wait_clean(array, 30000), "resync");
  memset(block, 0, sizeof block);
  must(bb_device_read(mirror, 0, block, sizeof block), "read");
  printf("read back: %s\n", block);

  must(bb_array_close(&array), "close");
  for (int i = 0; i < 3; ++i) must(bb_device_close(&drives[i]), "close drive");
  bb_runtime_close(&runtime);
  return strcmp(block, "written while degraded") != 0;
}
