/* What lies in folders, listed without the interpreter's lock: half of a scan that finds nothing new is spent here.
 *
 * `listing.py` has the contract, and the same in Python for an installation that was built without a C compiler.
 */

#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __linux__
#include <stdint.h>
#include <sys/syscall.h>
#endif

#ifdef __APPLE__
#define MTIME st_mtimespec
#define CTIME st_ctimespec
#else
#define MTIME st_mtim
#define CTIME st_ctim
#endif

/* No suffix of an audio file is longer. */
#define MOST_SUFFIX 8
/* Five numbers, the longest of 30 signs, and what parts them. */
#define MOST_VERSION 192
#define NANOSECONDS 1000000000LL
#define LISTING_BYTES 32768

enum { FOLDER = 'd', LINK = 'l', REGULAR_FILE = 'f', OTHER = 'o' };

typedef struct {
    size_t name; /* where it begins in the names; behind it comes the version of what is music */
    unsigned short length, version_length;
    char kind;
    char is_music;
    int error; /* errno of the look at it, or 0 */
} Entry;

typedef struct {
    const char *prefix; /* the folder below the root, with a slash, or nothing */
    Py_ssize_t prefix_length;
    int error; /* errno of the listing, or 0 */
    dev_t device;
    size_t first, count; /* which entries are its own */
} Folder;

/* What was found in all folders of a call. In a few large blocks: the C library has one lock for all memory where a
 * process is kept small, and threads that asked for some at each file waited for each other (two took twice as long
 * side by side). */
typedef struct {
    Entry *entries;
    size_t count, room;
    char *text; /* names, and versions */
    size_t used, text_room;
    char *place;
    size_t place_room;
    char *listing; /* LISTING_BYTES */
} Found;

typedef struct {
    size_t length;
    char text[MOST_SUFFIX];
} Suffix;

static int
make_room(char **block, size_t *room, size_t length)
{
    if (length <= *room)
        return 0;
    char *more = realloc(*block, 2 * length);
    if (more == NULL)
        return ENOMEM;
    *block = more;
    *room = 2 * length;
    return 0;
}

static Entry *
add(Found *all, const char *name, size_t length)
{
    if (all->count == all->room) {
        size_t room = all->room ? 2 * all->room : 1024;
        Entry *more = realloc(all->entries, room * sizeof(Entry));
        if (more == NULL)
            return NULL;
        all->entries = more;
        all->room = room;
    }
    if (make_room(&all->text, &all->text_room, all->used + length) != 0)
        return NULL;
    Entry *entry = &all->entries[all->count++];
    entry->name = all->used;
    entry->length = (unsigned short)length;
    entry->version_length = 0;
    entry->error = 0;
    entry->is_music = 0;
    memcpy(all->text + all->used, name, length);
    all->used += length;
    return entry;
}

/* Write a number in decimal, of at least so many digits; returns its end. */
static char *
decimal(char *at, unsigned long long number, int digits)
{
    char reversed[32];
    int count = 0;
    do {
        reversed[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0 || count < digits);
    while (count > 0)
        *at++ = reversed[--count];
    return at;
}

static char *
whole_number(char *at, long long number)
{
    if (number < 0)
        *at++ = '-';
    return decimal(at, number < 0 ? 0ULL - (unsigned long long)number : (unsigned long long)number, 1);
}

/* In nanoseconds from 1970: the seconds, and behind them nine digits. What takes more than 64 bits, before 1677 or
 * after 2262, stands at their end, as in FileStat. */
static char *
nanoseconds(char *at, struct timespec time)
{
    long long seconds = (long long)time.tv_sec, rest = time.tv_nsec;
    if (seconds > 9223372036LL || (seconds == 9223372036LL && rest > 854775807))
        return decimal(at, 9223372036854775807ULL, 1);
    if (seconds < -9223372037LL || (seconds == -9223372037LL && rest < 145224193)) {
        *at++ = '-';
        return decimal(at, 9223372036854775807ULL, 1);
    }
    if (seconds < 0) {
        *at++ = '-';
        if (rest > 0) {
            seconds++;
            rest = NANOSECONDS - rest;
        }
    }
    unsigned long long amount = seconds < 0 ? 0ULL - (unsigned long long)seconds : (unsigned long long)seconds;
    if (amount == 0)
        return decimal(at, (unsigned long long)rest, 1);
    return decimal(decimal(at, amount, 1), (unsigned long long)rest, 9);
}

/* Write down what version of a file this is, behind its name. */
static int
note_version(Found *all, Entry *entry, const struct stat *stat)
{
    if (make_room(&all->text, &all->text_room, all->used + MOST_VERSION) != 0)
        return ENOMEM;
    char *begin = all->text + all->used, *at = whole_number(begin, (long long)stat->st_size);
    *at++ = ',';
    at = nanoseconds(at, stat->MTIME);
    *at++ = ',';
    at = nanoseconds(at, stat->CTIME);
    *at++ = ',';
    at = whole_number(at, (long long)stat->st_ino);
    *at++ = ',';
    at = whole_number(at, (long long)stat->st_dev);
    entry->version_length = (unsigned short)(at - begin);
    all->used += entry->version_length;
    return 0;
}

static char
kind_of(mode_t mode)
{
    return S_ISREG(mode) ? REGULAR_FILE : S_ISDIR(mode) ? FOLDER : S_ISLNK(mode) ? LINK : OTHER;
}

static int
is_audio(const char *name, size_t length, const Suffix *suffixes, size_t count)
{
    size_t dot = length;
    while (dot > 0 && name[dot - 1] != '.')
        dot--;
    if (dot == 0 || name[0] == '.')
        return 0;
    dot--;
    for (size_t i = 0; i < count; i++) {
        if (suffixes[i].length != length - dot)
            continue;
        size_t at = 0;
        while (at < suffixes[i].length) {
            char letter = name[dot + at];
            if (letter >= 'A' && letter <= 'Z')
                letter += 'a' - 'A';
            if (letter != suffixes[i].text[at])
                break;
            at++;
        }
        if (at == suffixes[i].length)
            return 1;
    }
    return 0;
}

static int
take(Found *all, int descriptor, const char *name, unsigned char type, size_t room, const Suffix *suffixes,
     size_t count)
{
    size_t length = strlen(name);
    if (name[0] == '.' && (length == 1 || (length == 2 && name[1] == '.')))
        return 0;
    Entry *entry = add(all, name, length);
    if (entry == NULL)
        return ENOMEM;
    switch (type) {
    case DT_REG:
        entry->kind = REGULAR_FILE;
        break;
    case DT_DIR:
        entry->kind = FOLDER;
        break;
    case DT_LNK:
        entry->kind = LINK;
        break;
    case DT_UNKNOWN:
        /* Some file systems do not tell. */
        entry->kind = 0;
        break;
    default:
        entry->kind = OTHER;
    }
    int may_be_music = length <= room && is_audio(name, length, suffixes, count);
    if (entry->kind == 0 || (entry->kind == REGULAR_FILE && may_be_music)) {
        struct stat stat;
        int failed;
        do {
            failed = fstatat(descriptor, name, &stat, AT_SYMLINK_NOFOLLOW);
        } while (failed && errno == EINTR);
        if (failed) {
            entry->error = errno;
            return 0;
        }
        entry->kind = kind_of(stat.st_mode);
        entry->is_music = may_be_music && entry->kind == REGULAR_FILE;
        if (entry->is_music)
            return note_version(all, entry, &stat);
    }
    return 0;
}

#ifdef __linux__
/* As the kernel writes it. The C library's `readdir` takes 32 KiB anew for each folder. */
typedef struct {
    uint64_t inode;
    int64_t offset;
    uint16_t length;
    uint8_t type;
    char name[];
} Listed;

static int
take_all(Found *all, int descriptor, size_t room, const Suffix *suffixes, size_t count)
{
    if (all->listing == NULL && (all->listing = malloc(LISTING_BYTES)) == NULL)
        return ENOMEM;
    for (;;) {
        long filled = syscall(SYS_getdents64, descriptor, all->listing, (size_t)LISTING_BYTES);
        if (filled < 0 && errno == EINTR)
            continue;
        if (filled <= 0)
            return filled < 0 ? errno : 0;
        for (long at = 0; at < filled;) {
            const Listed *entry = (const Listed *)(all->listing + at);
            int error = take(all, descriptor, entry->name, entry->type, room, suffixes, count);
            if (error != 0)
                return error;
            at += entry->length;
        }
    }
}
#else
static int
take_all(Found *all, int descriptor, size_t room, const Suffix *suffixes, size_t count)
{
    int own = dup(descriptor), error = 0;
    DIR *stream = own < 0 ? NULL : fdopendir(own);
    if (stream == NULL) {
        error = errno;
        if (own >= 0)
            close(own);
        return error;
    }
    while (error == 0) {
        errno = 0;
        const struct dirent *entry = readdir(stream);
        if (entry == NULL) {
            error = errno;
            break;
        }
        error = take(all, descriptor, entry->d_name, entry->d_type, room, suffixes, count);
    }
    closedir(stream);
    return error;
}
#endif

static int
list(Folder *folder, Found *all, const char *root, size_t most, const Suffix *suffixes, size_t count)
{
    size_t length = strlen(root), prefix = (size_t)folder->prefix_length;
    folder->first = all->count;
    if (make_room(&all->place, &all->place_room, length + prefix + 2) != 0)
        return ENOMEM;
    memcpy(all->place, root, length);
    all->place[length] = '/';
    memcpy(all->place + length + 1, folder->prefix, prefix + 1);
    int descriptor, error;
    do {
        descriptor = open(all->place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        error = errno;
    } while (descriptor < 0 && error == EINTR);
    if (descriptor < 0)
        return error;
    struct stat own;
    if (fstat(descriptor, &own) != 0) {
        error = errno;
    } else {
        folder->device = own.st_dev;
        error = take_all(all, descriptor, most > prefix ? most - prefix : 0, suffixes, count);
    }
    close(descriptor);
    folder->count = all->count - folder->first;
    return error;
}

static int
append(PyObject *items, PyObject *item)
{
    if (item == NULL)
        return -1;
    int failed = PyList_Append(items, item);
    Py_DECREF(item);
    return failed;
}

static PyObject *
version_of(const Found *all, const Entry *file)
{
    return PyBytes_FromStringAndSize(all->text + file->name + file->length, file->version_length);
}

static PyObject *
pair(PyObject *name, PyObject *other)
{
    PyObject *both = PyTuple_New(2);
    if (both == NULL || name == NULL || other == NULL) {
        Py_XDECREF(both);
        Py_XDECREF(name);
        Py_XDECREF(other);
        return NULL;
    }
    PyTuple_SetItem(both, 0, name);
    PyTuple_SetItem(both, 1, other);
    return both;
}

/* The path of an entry below the root; `folder` ends with a slash, unless it is empty. */
static PyObject *
path_of(const Found *all, const Folder *folder, const Entry *entry)
{
    PyObject *path = PyBytes_FromStringAndSize(NULL, folder->prefix_length + entry->length);
    char *text = path == NULL ? NULL : PyBytes_AsString(path);
    if (text == NULL)
        return NULL;
    memcpy(text, folder->prefix, (size_t)folder->prefix_length);
    memcpy(text + folder->prefix_length, all->text + entry->name, entry->length);
    return path;
}

static PyObject *
told(const Found *all, const Folder *folder)
{
    if (folder->error != 0)
        return PyLong_FromLong(folder->error);
    PyObject *music = PyList_New(0), *versions = PyList_New(0), *others = PyList_New(0), *unreadable = PyList_New(0);
    PyObject *answer = PyTuple_New(5);
    int failed = music == NULL || versions == NULL || others == NULL || unreadable == NULL || answer == NULL;
    for (size_t i = 0; !failed && i < folder->count; i++) {
        const Entry *entry = &all->entries[folder->first + i];
        PyObject *path = path_of(all, folder, entry);
        if (entry->error != 0)
            failed = append(unreadable, pair(path, PyLong_FromLong(entry->error))) < 0;
        else if (entry->is_music)
            failed = append(music, path) < 0 || append(versions, version_of(all, entry)) < 0;
        else
            failed = append(others, pair(path, PyUnicode_FromStringAndSize(&entry->kind, 1))) < 0;
    }
    PyObject *device = failed ? NULL : PyLong_FromLongLong((long long)folder->device);
    if (failed || device == NULL) {
        Py_XDECREF(music);
        Py_XDECREF(versions);
        Py_XDECREF(others);
        Py_XDECREF(unreadable);
        Py_XDECREF(answer);
        return NULL;
    }
    PyTuple_SetItem(answer, 0, device);
    PyTuple_SetItem(answer, 1, music);
    PyTuple_SetItem(answer, 2, versions);
    PyTuple_SetItem(answer, 3, others);
    PyTuple_SetItem(answer, 4, unreadable);
    return answer;
}

/* The suffixes of a sequence of bytes; NULL, with an exception, for what is none. */
static Suffix *
suffixes_of(PyObject *given, size_t *count)
{
    Py_ssize_t size = PySequence_Size(given);
    Suffix *suffixes = size < 0 ? NULL : calloc((size_t)size + 1, sizeof(Suffix));
    if (suffixes == NULL)
        return size < 0 ? NULL : (Suffix *)PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < size; i++) {
        PyObject *item = PySequence_GetItem(given, i);
        char *text;
        Py_ssize_t length;
        if (item == NULL || PyBytes_AsStringAndSize(item, &text, &length) < 0 || length > MOST_SUFFIX) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_ValueError, "a suffix is too long");
            Py_XDECREF(item);
            free(suffixes);
            return NULL;
        }
        suffixes[i].length = (size_t)length;
        memcpy(suffixes[i].text, text, (size_t)length);
        Py_DECREF(item);
    }
    *count = (size_t)size;
    return suffixes;
}

static PyObject *
listed(PyObject *module, PyObject *arguments)
{
    const char *root;
    PyObject *given, *suffixes_given, *answers = NULL;
    Py_ssize_t most;
    /* "y" refuses what has a NUL inside. */
    if (!PyArg_ParseTuple(arguments, "yOOn:listed", &root, &given, &suffixes_given, &most))
        return NULL;
    size_t suffix_count = 0;
    Suffix *suffixes = suffixes_of(suffixes_given, &suffix_count);
    if (suffixes == NULL)
        return NULL;
    /* Of its own: nobody changes it meanwhile, and it keeps the texts that are used. */
    PyObject *prefixes = PySequence_Tuple(given);
    Py_ssize_t count = prefixes == NULL ? 0 : PyTuple_Size(prefixes);
    Found all = {0};
    Folder *folders = calloc((size_t)count + 1, sizeof(Folder));
    if (folders == NULL)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; folders != NULL && i < count && !PyErr_Occurred(); i++) {
        char *prefix;
        /* It too refuses a NUL where no length is asked for. */
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(prefixes, i), &prefix, NULL) == 0) {
            folders[i].prefix = prefix;
            folders[i].prefix_length = (Py_ssize_t)strlen(prefix);
        }
    }
    if (!PyErr_Occurred()) {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < count; i++)
            folders[i].error = list(&folders[i], &all, root, most < 0 ? 0 : (size_t)most, suffixes, suffix_count);
        Py_END_ALLOW_THREADS
        answers = PyList_New(0);
        for (Py_ssize_t i = 0; answers != NULL && i < count; i++) {
            if (append(answers, told(&all, &folders[i])) < 0) {
                Py_DECREF(answers);
                answers = NULL;
            }
        }
    }
    free(all.entries);
    free(all.text);
    free(all.place);
    free(all.listing);
    free(folders);
    free(suffixes);
    Py_XDECREF(prefixes);
    return answers;
}

static PyMethodDef functions[] = {
    {"listed", listed, METH_VARARGS, "listed(places, suffixes): see listing.py"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "mus.library._listing",
    .m_size = 0,
    .m_methods = functions,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__listing(void)
{
    return PyModuleDef_Init(&definition);
}
