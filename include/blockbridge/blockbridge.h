/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libblockbridge: redundant virtual disks from drives spread over the network. The C interface.
 *
 * It is stable: functions are only added, structs grow at their end and carry their size first.
 *
 * Results. Functions return a bb_code, 0 (BB_OK) when they worked; bb_last_error() then has the
 * text for the calling thread. Functions that end in _async return nothing: the result, good or
 * bad, arrives in their callback, once.
 *
 * Handles are opaque. bb_<noun>_close(&handle) waits until all that the handle does has ended, sets
 * the variable to NULL, and is harmless on NULL. Close what uses an object before the object:
 * exports, then arrays, then devices, then the runtime.
 *
 * Threads. With a runtime of its own thread (the default) every function may be called from any
 * thread, but for a close against other calls on the same handle. Callbacks run on the runtime's
 * thread: they must not block, and a blocking call from within one gives BB_BAD_STATE. A
 * host-driven runtime belongs to the one thread that uses it.
 *
 * Memory passed in is borrowed until the call returns, or for _async and bb_device_submit until the
 * callback has run. Strings are UTF-8, copied.
 */
#ifndef BLOCKBRIDGE_BLOCKBRIDGE_H
#define BLOCKBRIDGE_BLOCKBRIDGE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BB_API __attribute__((visibility("default")))

/* ---- results -------------------------------------------------------------------------------- */

/* What a caller does next decides the code. Since 0.1. */
typedef enum bb_code {
  BB_OK = 0,
  BB_INVALID_ARGUMENT = 1,  /* fix the call */
  BB_NOT_FOUND = 2,         /* name something that exists */
  BB_ALREADY_EXISTS = 3,    /* choose another name, or use what exists */
  BB_PERMISSION_DENIED = 4, /* use the right identity, or allow it there */
  BB_NOT_SUPPORTED = 5,     /* use something this build or machine supports */
  BB_BAD_STATE = 6,         /* bring the object into the state the text names */
  BB_NO_SPACE = 7,          /* free or add space */
  BB_UNAVAILABLE = 8,       /* retry: the other side does not answer now */
  BB_BUSY = 9,              /* retry when the present user is done */
  BB_TIMED_OUT = 10,        /* retry, perhaps with a longer limit */
  BB_NOT_LEADER = 11,       /* ask the active node */
  BB_FENCED = 12,           /* stop: a newer owner has taken over */
  BB_IO_ERROR = 13,         /* look at the drive or the link the text names */
  BB_CORRUPT = 14,          /* do not trust this copy; use another */
  BB_CANCELLED = 15,        /* nothing: the caller stopped it */
  BB_INTERNAL = 16          /* report it: this is a bug */
} bb_code;

/* "not_found" for BB_NOT_FOUND; "unknown" for a number that is no code. Static. Since 0.1. */
BB_API const char* bb_code_name(int code);

/* The text of the last call that failed in this thread, "" if none did. Valid until the next call
 * in this thread. Since 0.1. */
BB_API const char* bb_last_error(void);

/* "0.1.0". Static. Since 0.1. */
BB_API const char* bb_version(void);

/* Log lines on stderr, for the whole process: "debug", "info", "warn" (the default), "error",
 * "off". Errors: BB_INVALID_ARGUMENT. Since 0.1. */
BB_API int bb_log_level_set(const char* level);

/* The callback of an asynchronous call. `text` is "" when code is BB_OK, and valid only inside. */
typedef void (*bb_done)(void* arg, int code, const char* text);

/* ---- runtime: what everything else lives in ---------------------------------------------------
 */

typedef struct bb_runtime bb_runtime;

/* What asks the kernel. Both do the same but for ublk, which needs io_uring; epoll, with at most 16
 * threads for files, is for machines and sandboxes that refuse io_uring. Since 0.1. */
typedef enum bb_engine {
  BB_ENGINE_AUTO = 0, /* io_uring; epoll where that is refused, with a warning in the log */
  BB_ENGINE_IO_URING = 1,
  BB_ENGINE_EPOLL = 2
} bb_engine;

typedef struct bb_runtime_options {
  uint32_t struct_size;
  uint32_t host_driven; /* 0: own thread; 1: the caller's event loop drives bb_runtime_poll() */
  uint32_t engine;      /* a bb_engine; 0: BB_ENGINE_AUTO */
  /* 0: before it sleeps the loop looks up to 100 us for what may come, as long as that pays, which
   * saves the time of a wake-up; 1: it sleeps at once. Since 0.1. */
  uint32_t no_spin;
} bb_runtime_options;
#define BB_RUNTIME_OPTIONS_INIT {sizeof(bb_runtime_options), 0, BB_ENGINE_AUTO, 0}

/* Opens a runtime; `options` may be NULL. Errors: BB_NOT_SUPPORTED (BB_ENGINE_IO_URING, and it is
 * refused), BB_INVALID_ARGUMENT, BB_NO_SPACE (descriptors, memory). Since 0.1. */
BB_API int bb_runtime_open(const bb_runtime_options* options, bb_runtime** out);

/* What does the runtime's I/O: BB_ENGINE_IO_URING or BB_ENGINE_EPOLL. From any thread. Errors:
 * BB_INVALID_ARGUMENT. Since 0.1. */
BB_API int bb_runtime_engine(bb_runtime* runtime, bb_engine* engine);

/* Ends the runtime. Gives back BB_BAD_STATE, and ends nothing, while something that lives in it is
 * open. Since 0.1. */
BB_API int bb_runtime_close(bb_runtime** runtime);

/* Host-driven only: a descriptor that is readable when bb_runtime_poll() has something to do. It
 * belongs to the runtime. Errors: BB_BAD_STATE (own thread). Since 0.1. */
BB_API int bb_runtime_fd(bb_runtime* runtime, int* fd);

/* Host-driven only: runs what is ready, callbacks included, without waiting. Call it when the
 * descriptor is readable, and once after submitting. Errors: BB_BAD_STATE. Since 0.1. */
BB_API int bb_runtime_poll(bb_runtime* runtime);

/* ---- device: read, write, flush, discard ------------------------------------------------------
 */

typedef struct bb_device bb_device;

typedef struct bb_device_info {
  uint32_t struct_size;
  uint32_t block_size_bytes; /* offsets and lengths are multiples of it: 512 or 4096 */
  uint64_t size_bytes;
  uint32_t transfer_max_bytes; /* of one bb_device_submit; blocking calls split by themselves */
  uint32_t read_only;          /* 0 or 1 */
  uint32_t volatile_cache;     /* 1: completed writes need a flush to survive power loss */
  uint32_t ready;              /* 0: the device does not answer at present */
} bb_device_info;
#define BB_DEVICE_INFO_INIT {sizeof(bb_device_info), 0, 0, 0, 0, 0, 0}

/* Opens a device by URI: "file:/path?create=1&size=1G", "mem:1G", "null:1T",
 * "nvme-tcp://host:4420[,host:4420...]/NQN?nsid=1" (several addresses: several paths),
 * "nvme-tcp+discover://host:8009/NQN", "nvme:/dev/ng0n1" (a drive of this machine, by NVMe
 * passthrough: Linux 5.19, root), "nbd://host:10809/export", "nbd+unix:///export?socket=/path",
 * "fault:...". `runtime` must outlive it.
 * Errors: BB_INVALID_ARGUMENT (URI, option, size), BB_NOT_FOUND, BB_PERMISSION_DENIED, BB_BUSY
 * (locked by another process), BB_UNAVAILABLE, BB_TIMED_OUT. Since 0.1. */
BB_API int bb_device_open(bb_runtime* runtime, const char* uri, bb_device** out);

/* The same without waiting; `device` is NULL unless code is BB_OK. Since 0.1. */
typedef void (*bb_device_opened)(void* arg, int code, const char* text, bb_device* device);
BB_API void bb_device_open_async(bb_runtime* runtime, const char* uri, bb_device_opened done,
                                 void* arg);

/* A device made of the caller's functions, for I/O, arrays and exports like any other. They are
 * called on threads of the device, `threads` of them (1 to 64; 0: 1), never on the runtime's: so
 * they may block, and use other devices; with one thread they are called one after the other, with
 * more also for ranges that overlap. They give BB_OK or another bb_code. Offsets and lengths are
 * multiples of the block size, within the device, and at most transfer_max_bytes (0: 1 MiB);
 * buffers are borrowed until the function returns. Will grow at its end only. */
typedef struct bb_device_functions {
  uint32_t struct_size;
  uint32_t block_size_bytes; /* 512 or 4096 */
  uint64_t size_bytes;       /* a multiple of it */
  uint32_t transfer_max_bytes;
  uint32_t threads;
  const char* name; /* in messages; NULL: "functions" */
  int (*read)(void* arg, uint64_t offset_bytes, void* into, size_t length_bytes);
  /* NULL: the device is read-only */
  int (*write)(void* arg, uint64_t offset_bytes, const void* from, size_t length_bytes);
  /* Makes writes that have returned durable. NULL: each is when it returns */
  int (*flush)(void* arg);
  /* What the range then holds is undefined. NULL: the device does not discard */
  int (*discard)(void* arg, uint64_t offset_bytes, uint64_t length_bytes);
  /* NULL: zeroes are written */
  int (*write_zeroes)(void* arg, uint64_t offset_bytes, uint64_t length_bytes);
  /* Called last, once the device is closed; may be NULL */
  void (*closed)(void* arg);
  void* arg;
} bb_device_functions;
#define BB_DEVICE_FUNCTIONS_INIT \
  {sizeof(bb_device_functions), 512, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL}

/* `runtime` must outlive it. Errors: BB_INVALID_ARGUMENT (size, block size, threads, read is NULL);
 * `closed` is not called then. Since 0.1. */
BB_API int bb_device_create(bb_runtime* runtime, const bb_device_functions* functions,
                            bb_device** out);

/* Waits for requests in flight, closes, frees. Gives back BB_BAD_STATE, and closes nothing, while
 * an array or an export uses the device; an array's own device is closed by its array. Since 0.1.
 */
BB_API int bb_device_close(bb_device** device);

/* Fills `info` up to info->struct_size bytes. Since 0.1. */
BB_API int bb_device_get_info(bb_device* device, bb_device_info* info);

/* The paths of a device that has several ways to its target (nvme-tcp), as JSON text: [{address,
 * state (connecting, live, lost, closed), access (the ANA state of a live path), in_flight,
 * latency_ns (smoothed, 0: not known), connects, failures, detail}]; [] for other devices. The text
 * is the caller's, freed by bb_string_free. Any thread. Since 0.1. */
BB_API int bb_device_get_paths(bb_device* device, char** json);

/* Who may access a device that several hosts reach (NVMe base 2.0, 8.19): a host registers a key,
 * and with it may reserve the device, or take a reservation away from the host with another key. */
typedef enum bb_reservation_type {
  BB_RESERVATION_NONE = 0,
  BB_RESERVATION_WRITE_EXCLUSIVE = 1, /* one host writes, all read */
  BB_RESERVATION_EXCLUSIVE_ACCESS = 2,
  BB_RESERVATION_WRITE_EXCLUSIVE_REGISTRANTS = 3, /* one holds it, all with a key write */
  BB_RESERVATION_EXCLUSIVE_ACCESS_REGISTRANTS = 4,
  BB_RESERVATION_WRITE_EXCLUSIVE_ALL = 5, /* all with a key hold it */
  BB_RESERVATION_EXCLUSIVE_ACCESS_ALL = 6
} bb_reservation_type;

typedef enum bb_reservation_action {
  BB_RESERVATION_REGISTER = 1,   /* other_key: the new one */
  BB_RESERVATION_UNREGISTER = 2, /* key */
  BB_RESERVATION_REPLACE = 3,    /* key, other_key: the new one */
  BB_RESERVATION_ACQUIRE = 4,    /* key, type */
  BB_RESERVATION_PREEMPT = 5,    /* key, other_key: whose registration ends, type: to hold then */
  BB_RESERVATION_PREEMPT_AND_ABORT = 6, /* and what that host has in flight ends too */
  BB_RESERVATION_RELEASE = 7,           /* key, type */
  BB_RESERVATION_CLEAR = 8              /* key: the reservation and all registrations end */
} bb_reservation_action;

typedef struct bb_reservation_command {
  uint32_t struct_size;
  uint32_t action; /* bb_reservation_action */
  uint32_t type;   /* bb_reservation_type, where the action names it; else 0 */
  uint32_t flags;  /* of the three registrations only */
  uint64_t key;
  uint64_t other_key;
} bb_reservation_command;
#define BB_RESERVATION_COMMAND_INIT {sizeof(bb_reservation_command), 0, 0, 0, 0, 0}
#define BB_RESERVATION_IGNORE_KEY 1u /* whatever key the host has */
#define BB_RESERVATION_PERSIST 2u    /* registrations and reservation last through loss of power */
#define BB_RESERVATION_FORGET 4u     /* they do not */

/* Carries out one action, for the host that the device's URI names (hostid, hostnqn; made up anew
 * by every open where it names none). The command goes out once: where its answer was lost the
 * error says that it may have taken effect. Blocking, any thread but the runtime's. Errors:
 * BB_INVALID_ARGUMENT, BB_FENCED (another key is ours, or another host holds the device),
 * BB_NOT_SUPPORTED (no nvme-tcp device, or its target has none), BB_UNAVAILABLE, BB_TIMED_OUT,
 * BB_BAD_STATE. Since 0.1. */
BB_API int bb_device_reserve(bb_device* device, const bb_reservation_command* command);

/* The reservation as JSON text: {generation, type ("none", "write-exclusive", "exclusive-access",
 * and these with "-registrants" and "-all"), persistent, hosts: [{host (its UUID), key ("0x" and 16
 * digits), holds}]}. The text is the caller's, freed by bb_string_free. Blocking. Errors:
 * BB_NOT_SUPPORTED, BB_UNAVAILABLE, BB_TIMED_OUT, BB_BAD_STATE. Since 0.1. */
BB_API int bb_device_get_reservation(bb_device* device, char** json);

/* Blocking I/O of any length; offsets and lengths are multiples of the block size. A write is
 * durable after a later bb_device_flush(). A failed write may have happened in full, in part, or
 * not at all. Errors: BB_INVALID_ARGUMENT (range, alignment), BB_PERMISSION_DENIED (read-only),
 * BB_UNAVAILABLE, BB_IO_ERROR, BB_CORRUPT, BB_FENCED, BB_BAD_STATE. Since 0.1. */
BB_API int bb_device_read(bb_device* device, uint64_t offset_bytes, void* buffer,
                          size_t length_bytes);
BB_API int bb_device_write(bb_device* device, uint64_t offset_bytes, const void* buffer,
                           size_t length_bytes);
BB_API int bb_device_flush(bb_device* device);
/* The range's contents are undefined after a discard, zero after write_zeroes. Since 0.1. */
BB_API int bb_device_discard(bb_device* device, uint64_t offset_bytes, uint64_t length_bytes);
BB_API int bb_device_write_zeroes(bb_device* device, uint64_t offset_bytes, uint64_t length_bytes);

/* A run of bytes that are alike. */
typedef struct bb_extent {
  uint64_t length_bytes;
  uint64_t flags; /* BB_EXTENT_HOLE, BB_EXTENT_ZERO; 0: data, or unknown */
} bb_extent;
#define BB_EXTENT_HOLE 1u /* takes no space */
#define BB_EXTENT_ZERO 2u /* reads as zeroes */

/* What a range consists of, from its front: fills at most *extent_count extents and sets
 * *extent_count to how many there are, at least one. Together they may be shorter than the range:
 * ask again from where they end. A device that does not know says data; writes in flight may or may
 * not be seen. Known for file:, mem:, null: and, where the server tells, nbd:. Blocking. Errors:
 * BB_INVALID_ARGUMENT (range, alignment, a count of 0), BB_UNAVAILABLE, BB_IO_ERROR, BB_BAD_STATE.
 * Since 0.1. */
BB_API int bb_device_get_extents(bb_device* device, uint64_t offset_bytes, uint64_t length_bytes,
                                 bb_extent* extents, size_t* extent_count);

typedef enum bb_io_op {
  BB_IO_READ = 0,
  BB_IO_WRITE = 1,
  BB_IO_FLUSH = 2,
  BB_IO_DISCARD = 3,
  BB_IO_WRITE_ZEROES = 4
} bb_io_op;

#define BB_IO_FUA 1u /* write, write zeroes: durable before `done` */

/* One asynchronous I/O. The caller owns it; it stays where it is until `done` has run. The library
 * allocates nothing for it. */
typedef struct bb_io {
  uint32_t struct_size;
  uint32_t op;    /* bb_io_op */
  uint32_t flags; /* BB_IO_FUA */
  uint32_t iov_count;
  const struct iovec* iov; /* read, write: the buffers, themselves borrowed until `done` */
  uint64_t offset_bytes;
  uint64_t length_bytes; /* discard, write zeroes; read and write take the sum of the iovecs */
  bb_done done;
  void* arg;
  uint64_t reserved[64]; /* the library's, from submission to `done` */
} bb_io;
#define BB_IO_INIT {sizeof(bb_io), 0, 0, 0, NULL, 0, 0, NULL, NULL, {0}}

/* Submits one I/O of at most transfer_max_bytes. Every error, of arguments too, arrives in
 * io->done, which must not be NULL. Since 0.1. */
BB_API void bb_device_submit(bb_device* device, bb_io* io);

/* ---- array: RAID 1 over devices ----------------------------------------------------------------
 */

typedef struct bb_array bb_array;

typedef struct bb_array_options {
  uint32_t struct_size;
  uint32_t assume_clean; /* create: 1 = the copies are known to be equal, no initial sync; 5 and
                          * 6 are zeroed in any case */
  const char* name;      /* create: 1 to 64 bytes of letters, digits, - _ . */
  const char* store;     /* where the membership is recorded: "file:/path/to/cluster.db" */
  uint64_t region_bytes; /* create: bytes of each member that a bit of the write-intent bitmap
                          * covers, no less than a chunk; 0 = automatic */
  const char* level;     /* create: "0", "1", "1E", "10", "5" or "6"; NULL = "1" */
  uint32_t copies;       /* create, level 10: of each block, 2 to 8; 0 = 2 */
  uint32_t reserved;     /* 0 */
  uint64_t chunk_bytes;  /* create, not level 1: consecutive bytes on one member, a power of two
                          * from 4096 to 16777216; 0 = 65536 */
  const char* integrity; /* create: "crc32c" keeps a checksum of each 4 KiB of each member, compared
                          * on every read; "none"; NULL = crc32c, but none for level 0 */
  uint64_t slow_fail_ms; /* a member that is much slower than its peers for so long is failed, if
                          * the array holds everything without it; 0 = never, it is only avoided */
} bb_array_options;
#define BB_ARRAY_OPTIONS_INIT {sizeof(bb_array_options), 0, NULL, NULL, 0, NULL, 0, 0, 0, NULL, 0}

/* Makes a new array over devices: RAID 1 (2 to 8 of them), 10 (3 to 64), 1E (3 to 63, odd), 5 (3 to
 * 64), 6 (4 to 64) or, without redundancy, 0 (1 to 64); what they held is lost. With parity (5, 6)
 * the devices are zeroed first, which takes as long as they need for that. The devices are borrowed
 * until bb_array_close(). Errors: BB_INVALID_ARGUMENT (too few, too small, unequal block size, the
 * same twice, a level, chunk or number of copies out of range), BB_ALREADY_EXISTS (a device belongs
 * to another array, or the name is taken), BB_IO_ERROR, BB_UNAVAILABLE (store). After an error no
 * array exists. Since 0.1. */
BB_API int bb_array_create(bb_runtime* runtime, bb_device* const* members, size_t member_count,
                           const bb_array_options* options, bb_array** out);

/* Starts an existing array from whichever of its members are given, in any order. Only members that
 * the store calls in-sync are read; others are listed as stale until readmitted. Errors:
 * BB_NOT_FOUND (no member of an array, or not in this store), BB_BAD_STATE (no in-sync member is
 * present: state "recover"), BB_FENCED, BB_CORRUPT. Since 0.1. */
BB_API int bb_array_assemble(bb_runtime* runtime, bb_device* const* members, size_t member_count,
                             const bb_array_options* options, bb_array** out);

/* The array as a device for I/O and exports. Borrowed from the array: not closed by itself.
 * Never NULL for an open array. Since 0.1. */
BB_API bb_device* bb_array_device(bb_array* array);

/* State as JSON text, stable keys: name, uuid, state, version, size_bytes, region_bytes,
 * dirty_regions, level, slots, copies, chunk_bytes, integrity, explanation (sentences: why it is in
 * its state and what happens next), resync {done_bytes, total_bytes},
 * members [{uuid, slot, state, generation, drive, detail, present, slow, behind_bytes, reads,
 * writes, errors, repaired_ranges, checksum_errors, latency}]. latency: of its reads and its writes
 * since it was opened, {read, write: {count, sum_ns, max_ns, p50_ns, p90_ns, p99_ns, p999_ns}}.
 * `*json` is freed by bb_string_free. Since 0.1. */
BB_API int bb_array_get_info(bb_array* array, char** json);
BB_API void bb_string_free(char* text);

/* Takes a member out (uuid from bb_array_get_info); readmits it with a resync of the dirty regions
 * only. Errors: BB_NOT_FOUND, BB_BAD_STATE (the last in-sync member stays). Since 0.1. */
BB_API int bb_array_fail_member(bb_array* array, const char* member_uuid);
BB_API int bb_array_readmit_member(bb_array* array, const char* member_uuid);

/* `fresh` takes the place of a member, which is removed for good; everything is copied onto it. It
 * must hold no array unless `force` is 1. In use like the devices given at the start until
 * bb_array_close(). Returns when it gets all new writes (bb_array_wait_clean() waits for the rest).
 * Errors: BB_NOT_FOUND, BB_NO_SPACE (smaller than the others, other blocks), BB_ALREADY_EXISTS (it
 * belongs to an array), BB_BAD_STATE (the member is needed). Since 0.1. */
BB_API int bb_array_replace_member(bb_array* array, const char* member_uuid, bb_device* fresh,
                                   int force);

/* Forgets a member for good: its slot stays empty until somebody takes it by
 * bb_array_replace_member(). Errors: BB_NOT_FOUND, BB_BAD_STATE (the member is needed). Since 0.1.
 */
BB_API int bb_array_remove_member(bb_array* array, const char* member_uuid);

/* How fast resync and scrub may go; 0 = no limit. Beside a host's I/O they go as fast as leaves its
 * latency (p99) below one and a half of what it is without them, but so fast at least. Bytes per
 * second; to begin with 1 GiB and 16 MiB. BB_INVALID_ARGUMENT: the least is above the limit. Since
 * 0.1. */
BB_API int bb_array_set_resync_rate(bb_array* array, uint64_t limit_bytes_per_second,
                                    uint64_t least_beside_host_bytes_per_second);

/* Waits until no resync runs. Errors: BB_TIMED_OUT after timeout_ms. Since 0.1. */
BB_API int bb_array_wait_clean(bb_array* array, uint64_t timeout_ms);

/* Reads everything that every member has and compares it with its checksum and with the other
 * copies, or with parity; rewrites what one of them proves wrong, and nothing else. What is wrong
 * in parity is told at the first byte of its stripe. Blocks until it is through. `*json`, freed by
 * bb_string_free: checked_bytes, skipped_bytes, repaired_blocks, unrepaired_blocks, findings
 * [{offset_bytes, repaired}] (the first 1000 blocks of 4 KiB). From the beginning: one that was
 * interrupted or paused ends as cancelled. Errors: BB_UNAVAILABLE, BB_BAD_STATE (one runs),
 * BB_CANCELLED (closed or stopped meanwhile). Since 0.1. */
BB_API int bb_array_scrub(bb_array* array, char** json);

/* The same, from where an interrupted or paused scrub is; from the beginning if there is none. The
 * report is of the whole scrub. BB_BAD_STATE: one runs; BB_CANCELLED: paused or cancelled
 * meanwhile. Since 0.1. */
BB_API int bb_array_scrub_resume(bb_array* array, char** json);

/* From another thread: the scrub that runs returns soon, to be resumed or not. One that was
 * interrupted is paused or cancelled too. BB_BAD_STATE: there is none. Since 0.1. */
BB_API int bb_array_scrub_pause(bb_array* array);
BB_API int bb_array_scrub_cancel(bb_array* array);

/* The present or latest scrub and those before, as the members keep them, as JSON to be freed with
 * bb_string_free: state ("never", "running", "interrupted", "paused", "done", "cancelled",
 * "failed"), text, detail, percent, done_bytes, total_bytes, begun_wall_ns, ended_wall_ns,
 * scheduled, the fields of bb_array_scrub, and history, a list of the same, newest first (8 at
 * most, with 48 findings each once the array was assembled again). Since 0.1. */
BB_API int bb_array_scrub_info(bb_array* array, char** json);

/* Stops the array cleanly. Gives back BB_BAD_STATE while an export uses it. Since 0.1. */
BB_API int bb_array_close(bb_array** array);

/* ---- export: a device for hosts, over NVMe/TCP or NBD, or for this machine by ublk
 * -------------------------------------------- */

typedef struct bb_export bb_export;

typedef enum bb_export_kind {
  BB_EXPORT_NVME_TCP = 0,
  BB_EXPORT_NBD = 1,
  BB_EXPORT_UBLK = 2 /* a block device of this machine: Linux 6.4, ublk_drv, root */
} bb_export_kind;

typedef enum bb_export_tls {
  BB_EXPORT_TLS_OFF = 0,
  BB_EXPORT_TLS_ALLOWED = 1, /* NBD: clients may ask for it; NVMe/TCP: the discovery service
                                answers in the clear, too */
  BB_EXPORT_TLS_REQUIRED = 2 /* nothing else is answered */
} bb_export_tls;

/* What an NVMe/TCP host proves that it knows. The files hold one secret each, as nvme-cli prints
 * it, and only their owner may read them (mode 0600). Will not grow. */
typedef struct bb_host_secret {
  const char* host_nqn;
  const char* dhchap_secret_file; /* DH-HMAC-CHAP ("DHHC-1:..."), or NULL */
  const char* tls_psk_file;       /* key for TLS 1.3 ("NVMeTLSkey-1:..."), or NULL */
} bb_host_secret;

typedef struct bb_export_options {
  uint32_t struct_size;
  uint32_t kind;      /* bb_export_kind */
  const char* listen; /* "127.0.0.1:4420" (port 0: the system chooses), "unix:/path" (NBD); ublk:
                         "3" for /dev/ublkb3, "any" or NULL: the system chooses */
  const char* name;   /* NBD: export name; NVMe/TCP: subsystem NQN, NULL = a new uuid's; ublk: what
                         a later process must say to take the block device over, NULL = the URI */
  const char* const* allowed_hosts; /* NVMe/TCP: host NQNs; with count 0 every host */
  size_t allowed_host_count;
  uint32_t nbd_read_only; /* NBD: 1 = clients may not write, whatever the device allows */
  uint32_t nbd_exclusive; /* NBD: 1 = one connection at a time: a new one ends the one before it and
                             is served once nothing that was asked on that can happen any more */
  uint32_t tls;           /* bb_export_tls: TLS 1.3, NBD with the certificates that follow, NVMe/TCP
                             with the tls_psk_file of each host */
  const char* nbd_tls_certificate_file; /* PEM, with its chain */
  const char* nbd_tls_key_file;         /* PEM; only its owner may read it (mode 0600) */
  const char* nbd_tls_ca_file;          /* PEM, or NULL; with it clients must show a certificate */
  const bb_host_secret* host_secrets; /* NVMe/TCP: once one host has a secret (a key) hosts without
                                         one are refused */
  size_t host_secret_count;
  const char* ctrl_secret_file; /* NVMe/TCP: DH-HMAC-CHAP secret that proves us to hosts that ask,
                                   or NULL; mode 0600 */
} bb_export_options;
#define BB_EXPORT_OPTIONS_INIT \
  {sizeof(bb_export_options), 0, NULL, NULL, NULL, 0, 0, 0, 0, NULL, NULL, NULL, NULL, 0, NULL}

/* Offers `device` on the network; it is borrowed until bb_export_close(). Errors:
 * BB_ALREADY_EXISTS (port in use), BB_INVALID_ARGUMENT, BB_CORRUPT (a secret whose checksum is
 * wrong), BB_NOT_FOUND (a file), BB_PERMISSION_DENIED (the port; a file; a secret that others may
 * read). Files are read before it returns, on the caller's thread. Since 0.1.
 *
 * BB_EXPORT_UBLK makes a block device. When the process dies, I/O of whoever uses it waits; an
 * export with the same number and name takes it over and the I/O goes on. The runtime's thread
 * serves it: that thread must never touch the block device, nor a file on it. Errors besides:
 * BB_NOT_SUPPORTED (no driver), BB_BUSY (the number is served), BB_ALREADY_EXISTS (it shows another
 * device), BB_BAD_STATE (the device has another size than when it was made). */
BB_API int bb_export_start(bb_device* device, const bb_export_options* options, bb_export** out);

/* A URI by which others reach it: "nvme-tcp://127.0.0.1:4420/NQN" or "nbd://127.0.0.1:10809/name";
 * of ublk the path of the block device. Valid until the export is closed. Since 0.1. */
BB_API const char* bb_export_uri(bb_export* exported);

/* Disconnects the hosts, waits for what they had in flight. Gives back BB_BUSY, and closes nothing,
 * while a ublk block device is mounted or open exclusively. Since 0.1. */
BB_API int bb_export_close(bb_export** exported);

/* ---- discovery: which NVMe/TCP subsystems a service names -------------------------------------
 */

typedef struct bb_discovery bb_discovery;

/* Told on the runtime's thread, first with what there is and then at every change. `json` is
 * borrowed for the call: [{nqn, address, uri}]; the uri opens by bb_device_open(). */
typedef void (*bb_discovery_changed)(void* arg, const char* json);

typedef struct bb_discovery_options {
  uint32_t struct_size;
  const char* address;      /* of the service, "host:port"; port 8009 unless given */
  const char* host_nqn;     /* who asks; NULL makes a name up */
  const char* tls_psk_file; /* NULL: in the clear. Else the service, and those that it refers to,
                               are asked by TLS 1.3 with this host's key ("NVMeTLSkey-1:...", mode
                               0600), or not at all; needs host_nqn */
} bb_discovery_options;
#define BB_DISCOVERY_OPTIONS_INIT {sizeof(bb_discovery_options), NULL, NULL, NULL}

/* Keeps a connection to a discovery service and follows its referrals. A connection that cannot be
 * made, or is lost, is made anew with back-off, without an end. The key is read before this
 * returns. Errors: BB_INVALID_ARGUMENT; of the key BB_NOT_FOUND, BB_PERMISSION_DENIED and
 * BB_CORRUPT. Since 0.1. */
BB_API int bb_discovery_start(bb_runtime* runtime, const bb_discovery_options* options,
                              bb_discovery_changed changed, void* arg, bb_discovery** out);

/* Nothing is told any more once this has returned; never from within the callback. Since 0.1. */
BB_API int bb_discovery_close(bb_discovery** discovery);

/* ---- statistics: what the I/O of a device or an export was like --------------------------------
 *
 * Collected always, from the opening on, at the cost of some twenty nanoseconds a command. Any
 * thread; like every call they wait for their turn on the runtime's thread. See
 * docs/OBSERVABILITY.md.
 */

typedef struct bb_io_counters {
  uint32_t struct_size;
  uint32_t connections;                             /* export: of hosts, at present; device: 0 */
  uint64_t in_flight;                               /* commands begun and not ended, at present */
  uint64_t reads, writes, others;                   /* that succeeded; others: flush, discard,
                                                       write zeroes, compare */
  uint64_t read_bytes, written_bytes, other_bytes;  /* of those */
  uint64_t read_errors, write_errors, other_errors; /* commands that failed */
  uint64_t digest_errors;                           /* damage on the way that a digest showed */
  uint64_t reconnects; /* device over a network: connections made again */
  uint64_t retries;    /* device over a network: commands sent again after damage */
} bb_io_counters;
#define BB_IO_COUNTERS_INIT {sizeof(bb_io_counters), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

/* Fills `counters` up to counters->struct_size bytes. An export counts what hosts asked of it, over
 * all their connections so far; its device counts whoever uses it. Errors: BB_NOT_SUPPORTED (an
 * export by ublk: ask its device). Since 0.1. */
BB_API int bb_device_get_counters(bb_device* device, bb_io_counters* counters);
BB_API int bb_export_get_counters(bb_export* exported, bb_io_counters* counters);

/* Counters, latencies and the commands worth a look, as JSON text with stable keys:
 *   type "device" or "export", name, in_flight, events {reconnects, digest_errors, ...};
 *   read, write, other: {count, bytes, errors, latency {stage: histogram}}, where a device has the
 *     stage "total" and an export also receive, device and send; a histogram is {count, sum_ns,
 *     max_ns, p50_ns, p90_ns, p99_ns, p999_ns, buckets [[first_ns, last_ns, count]...]}, its
 *     quantiles within 3.1 % of the truth; histograms are merged by adding up equal buckets;
 *   slow, failed: the last of each (an export 128, a device 32), newest first: {op, object, nsid,
 *     offset_bytes, length_bytes, status, ended (RFC 3339), age_ns, receive_ns, device_ns, send_ns,
 *     total_ns, host};
 *   connections (of an export): one such object each, with labels {export, host, peer, queue}.
 * `*json` is freed by bb_string_free. Since 0.1. */
BB_API int bb_device_get_stats(bb_device* device, char** json);
BB_API int bb_export_get_stats(bb_export* exported, char** json);

/* The same of all that is open in the runtime, as Prometheus text (format 0.0.4), for a /metrics of
 * your own. `*text` is freed by bb_string_free. Since 0.1. */
BB_API int bb_runtime_get_metrics(bb_runtime* runtime, char** text);

/* ---- disk node: publish drives as an Ethernet-attached enclosure ------------------- */

typedef struct bb_disknode bb_disknode;

/* Starts a disk node from a YAML file, see bb-disknode(1): drives, listen addresses, permitted
 * hosts. Errors: BB_INVALID_ARGUMENT (file:line and what is wrong there), BB_NOT_FOUND, BB_BUSY (a
 * drive is in use), BB_ALREADY_EXISTS (port in use). Since 0.1. */
BB_API int bb_disknode_start(bb_runtime* runtime, const char* config_path, bb_disknode** out);

/* What it publishes, as JSON text: the fields of bb-disknode's node.info: name, domain, nvme
 * addresses, drives [{id, nqn, slot, capacity_bytes, state, claim}], refused. Freed by
 * bb_string_free. Since 0.1. */
BB_API int bb_disknode_get_info(bb_disknode* disknode, char** json);

/* Drains and stops. Since 0.1. */
BB_API int bb_disknode_close(bb_disknode** disknode);

/* ---- drives of this machine -------------------------------------------------------- */

/* The NVMe controllers that this machine's kernel knows, as a JSON array: name, model, serial,
 * firmware, transport, address, subsystem_nqn, state, source ("hardware", or "simulated" when a
 * program answers), capacity_bytes, namespaces [{name, uri for bb_device_open, nsid, size_bytes,
 * used_bytes, block_bytes, formats [{number, data_bytes, metadata_bytes, performance, in_use}]}],
 * health (null when it could not be read, else {temperature_celsius, wear_percent, spare_percent,
 * spare_threshold_percent, media_errors, power_on_hours, ...}), problem (why something is absent).
 * Blocks while the drives are asked; from any thread, without a runtime. Health and formats need
 * root. `*json` is freed by bb_string_free. Errors: BB_INVALID_ARGUMENT, BB_IO_ERROR. Since 0.1. */
BB_API int bb_local_drive_list(char** json);

#ifdef __cplusplus
}
#endif

#endif /* BLOCKBRIDGE_BLOCKBRIDGE_H */
