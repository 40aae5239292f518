#ifndef HOLDFAST_CSHIMS_H
#define HOLDFAST_CSHIMS_H

#include <stddef.h>
#include <stdint.h>

/// CRC32C (Castagnoli, reflected 0x82F63B78) of `length` bytes that continues `crc`;
/// start with 0. Uses SSE4.2 and PCLMULQDQ where the processor has them.
uint32_t hf_crc32c(uint32_t crc, const void *bytes, size_t length);

/// `hf_crc32c` without hardware: what the tests compare with.
uint32_t hf_crc32c_portable(uint32_t crc, const void *bytes, size_t length);

/// `renameat2(RENAME_NOREPLACE)`: 0, or -1 with errno. Swift's Glibc module lacks it.
int hf_rename_noreplace(int from_dir, const char *from, int to_dir, const char *to);

/// `openat2` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS`:
/// opens `path` below `dir` without ever following a link. Falls back to a walk of
/// `openat(O_NOFOLLOW)` on kernels before 5.6. Returns a descriptor, or -1 with errno.
int hf_open_beneath(int dir, const char *path, int flags, unsigned mode);

/// The user and group of the process at the other end of a unix socket
/// (`SO_PEERCRED`): 0, or -1 with errno.
int hf_peer_credentials(int socket, uint32_t *uid, uint32_t *gid, int32_t *pid);

/// Starts write-back of a byte range (`sync_file_range`): 0, or -1 with errno.
int hf_start_writeback(int fd, int64_t offset, int64_t length);

/// Writes a byte range's cached pages to the device and waits for it (`sync_file_range`): 0, or -1 with errno. Makes
/// nothing durable; but an error that it reports is not reported to a later sync.
int hf_write_back(int fd, int64_t offset, int64_t length);

/// A counter that can be polled (`eventfd`), not blocking, or -1 with errno.
int hf_event_descriptor(void);

/// Asks for idle I/O priority and the lowest CPU priority for the calling thread.
void hf_lower_priority(void);

/// O_DIRECT, which Swift's Glibc module hides behind _GNU_SOURCE.
int hf_o_direct(void);

static inline void hf_prefetch(const void *address) { __builtin_prefetch(address, 0, 3); }

#endif
