/* Opening a file, as `safe_open.py` does it: a regular one, that really lies where it may. */

#include "plain_tags.h"

#include <limits.h>
#include <stdio.h>
#include <unistd.h>

/* Where the file lies that was really opened; its length, 0 where that is not known. */
static size_t
opened_path(int descriptor, char *path, size_t room)
{
#if defined(__linux__)
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, room);
    return length > 0 && (size_t)length < room ? (size_t)length : 0;
#elif defined(F_GETPATH)
    return room >= PATH_MAX && fcntl(descriptor, F_GETPATH, path) == 0 ? strlen(path) : 0;
#else
    return 0;
#endif
}

/* Nanoseconds of other times, before 1677 or after 2262, take more than 64 bits. */
static int
is_in_range(struct timespec time)
{
    return time.tv_sec > -9200000000LL && time.tv_sec < 9200000000LL;
}

int
open_below(const char *path, const char *prefix, size_t prefix_length, struct stat *found)
{
    char real[PATH_MAX + 1];
    /* To open a device is to use it, so look first. */
    if (lstat(path, found) != 0 || !S_ISREG(found->st_mode))
        return -1;
    int descriptor = open(path, OPEN_FLAGS);
    if (descriptor < 0)
        return -1;
    if (fstat(descriptor, found) == 0 && S_ISREG(found->st_mode) && is_in_range(MODIFIED(found)) &&
        is_in_range(CHANGED(found)) && opened_path(descriptor, real, sizeof real) > prefix_length && memcmp(real, prefix, prefix_length) == 0)
        return descriptor;
    close(descriptor);
    return -1;
}
