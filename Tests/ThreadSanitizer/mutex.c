// Tells ThreadSanitizer about the mutexes of Swift's Synchronization library.
//
// The quick paths of `Mutex` are inlined, and so seen; where a thread has to wait, lock and unlock are calls into
// libswiftSynchronization, which is built without the sanitizer: it would take whatever such a mutex guards for a race. These
// functions stand before the library's own (the program's symbols come first), call them, and say what they did: an
// unlock releases to whoever locks the same word next, on either path. Compiled into tests with --sanitize=thread only.
// Names and calling convention: swift/stdlib/public/Synchronization/Mutex/LinuxImpl.swift.

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

void __tsan_acquire(void *address);
void __tsan_release(void *address);

#define SWIFT __attribute__((swiftcall))
#define SELF __attribute__((swift_context)) void *mutex

#define LOCK_SLOW "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define TRY_LOCK_SLOW "$s15Synchronization12_MutexHandleV12_tryLockSlowSbyF"
#define UNLOCK_SLOW "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"

SWIFT void holdfast_lock_slow(uint32_t thread, SELF) __asm__(LOCK_SLOW);
SWIFT bool holdfast_try_lock_slow(SELF) __asm__(TRY_LOCK_SLOW);
SWIFT void holdfast_unlock_slow(SELF) __asm__(UNLOCK_SLOW);

static void *library(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

SWIFT void holdfast_lock_slow(uint32_t thread, SELF) {
    ((SWIFT void (*)(uint32_t, SELF))library(LOCK_SLOW))(thread, mutex);
    __tsan_acquire(mutex);
}

SWIFT bool holdfast_try_lock_slow(SELF) {
    bool locked = ((SWIFT bool (*)(SELF))library(TRY_LOCK_SLOW))(mutex);
    if (locked) __tsan_acquire(mutex);
    return locked;
}

SWIFT void holdfast_unlock_slow(SELF) {
    __tsan_release(mutex);
    ((SWIFT void (*)(SELF))library(UNLOCK_SLOW))(mutex);
}

#endif
#endif
