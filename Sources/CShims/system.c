// Calls that Swift's Glibc module does not have.

#define _GNU_SOURCE
#include "CShims.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int hf_rename_noreplace(int from_dir, const char *from, int to_dir, const char *to) {
    return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, 1u /* RENAME_NOREPLACE */);
}

struct how {
    uint64_t flags, mode, resolve;
};

// Kernels without openat2: every step is opened with O_NOFOLLOW, and ".." is refused.
static int walk(int dir, const char *path, int flags, unsigned mode) {
    char part[256];
    int at = dir;
    if (*path == '/') {
        errno = EXDEV;
        return -1;
    }
    for (;;) {
        const char *slash = strchr(path, '/');
        size_t n = slash ? (size_t)(slash - path) : strlen(path);
        if (n >= sizeof part || (n == 2 && !memcmp(path, "..", 2))) {
            errno = n >= sizeof part ? ENAMETOOLONG : EXDEV;
            if (at != dir) close(at);
            return -1;
        }
        memcpy(part, path, n);
        part[n] = 0;
        int next = slash ? openat(at, part, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                         : openat(at, part, flags | O_NOFOLLOW | O_CLOEXEC, mode);
        int error = errno;
        if (at != dir) close(at);
        errno = error;
        if (next < 0 || !slash) return next;
        at = next;
        path = slash + 1;
    }
}

int hf_open_beneath(int dir, const char *path, int flags, unsigned mode) {
    struct how how = {
        .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
        .mode = (flags & O_CREAT) ? mode : 0,
        .resolve = 0x08 | 0x04 | 0x02,  // BENEATH, NO_SYMLINKS, NO_MAGICLINKS
    };
    int fd = (int)syscall(437 /* openat2 */, dir, path, &how, sizeof how);
    if (fd < 0 && (errno == ENOSYS || errno == EPERM)) return walk(dir, path, flags, mode);
    return fd;
}

int hf_peer_credentials(int socket, uint32_t *uid, uint32_t *gid, int32_t *pid) {
    struct ucred peer;
    socklen_t length = sizeof peer;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return -1;
    *uid = peer.uid;
    *gid = peer.gid;
    *pid = peer.pid;
    return 0;
}

int hf_start_writeback(int fd, int64_t offset, int64_t length) {
    return sync_file_range(fd, offset, length, SYNC_FILE_RANGE_WRITE);
}

int hf_write_back(int fd, int64_t offset, int64_t length) {
    int result = sync_file_range(fd, offset, length,
                                 SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
    // A system that has no such call: the sync that follows does all the work.
    if (result != 0 && (errno == ENOSYS || errno == EINVAL || errno == ESPIPE || errno == EOPNOTSUPP)) return 0;
    return result;
}

int hf_event_descriptor(void) { return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); }

void hf_lower_priority(void) {
    syscall(SYS_ioprio_set, 1 /* thread */, 0, (3 << 13) /* idle */);
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 10);
}

int hf_o_direct(void) { return O_DIRECT; }
