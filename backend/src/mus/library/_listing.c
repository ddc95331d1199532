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

#ifdef __APPLE__
#define MTIME st_mtimespec
#define CTIME st_ctimespec
#else
#define MTIME st_mtim
#define CTIME st_ctim
#endif

/* No suffix of an audio file is longer. */
#define MOST_SUFFIX 8
/* Past this many seconds from 1970 a time in nanoseconds leaves 64 bits. */
#define MOST_SECONDS 9000000000LL

enum { FOLDER = 'd', LINK = 'l', REGULAR_FILE = 'f', OTHER = 'o' };

typedef struct {
    size_t name; /* where it begins in the names */
    unsigned short length;
    char kind;
    char is_music; /* what follows is set then */
    int error;     /* errno of the look at it, or 0 */
    off_t size;
    struct timespec mtime, ctime;
    ino_t inode;
    dev_t device;
} Entry;

typedef struct {
    const char *prefix; /* the folder below the root, with a slash, or nothing */
    Py_ssize_t prefix_length;
    int error; /* errno of the listing, or 0 */
    dev_t device;
    Entry *entries;
    size_t count, room;
    char *names;
    size_t used, names_room;
} Folder;

typedef struct {
    size_t length;
    char text[MOST_SUFFIX];
} Suffix;

static void
forget(Folder *folder)
{
    free(folder->entries);
    free(folder->names);
    folder->entries = NULL;
    folder->names = NULL;
    folder->count = folder->room = folder->used = folder->names_room = 0;
}

static Entry *
add(Folder *folder, const char *name, size_t length)
{
    if (folder->count == folder->room) {
        size_t room = folder->room ? 2 * folder->room : 64;
        Entry *more = realloc(folder->entries, room * sizeof(Entry));
        if (more == NULL)
            return NULL;
        folder->entries = more;
        folder->room = room;
    }
    if (folder->used + length > folder->names_room) {
        size_t room = 2 * folder->names_room + length + 1024;
        char *more = realloc(folder->names, room);
        if (more == NULL)
            return NULL;
        folder->names = more;
        folder->names_room = room;
    }
    Entry *entry = &folder->entries[folder->count++];
    entry->name = folder->used;
    entry->length = (unsigned short)length;
    entry->error = 0;
    entry->is_music = 0;
    memcpy(folder->names + folder->used, name, length);
    folder->used += length;
    return entry;
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
take(Folder *folder, int descriptor, const struct dirent *found, size_t room, const Suffix *suffixes, size_t count)
{
    const char *name = found->d_name;
    size_t length = strlen(name);
    if (name[0] == '.' && (length == 1 || (length == 2 && name[1] == '.')))
        return 0;
    Entry *entry = add(folder, name, length);
    if (entry == NULL)
        return ENOMEM;
    switch (found->d_type) {
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
        entry->size = stat.st_size;
        entry->mtime = stat.MTIME;
        entry->ctime = stat.CTIME;
        entry->inode = stat.st_ino;
        entry->device = stat.st_dev;
    }
    return 0;
}

static int
list(Folder *folder, const char *root, size_t most, const Suffix *suffixes, size_t count)
{
    size_t length = strlen(root), prefix = (size_t)folder->prefix_length;
    char *place = malloc(length + prefix + 2);
    if (place == NULL)
        return ENOMEM;
    memcpy(place, root, length);
    place[length] = '/';
    memcpy(place + length + 1, folder->prefix, prefix + 1);
    int descriptor, refused;
    do {
        descriptor = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        refused = errno;
    } while (descriptor < 0 && refused == EINTR);
    free(place);
    if (descriptor < 0)
        return refused;
    size_t room = most > prefix ? most - prefix : 0;
    struct stat own;
    DIR *stream = fstat(descriptor, &own) == 0 ? fdopendir(descriptor) : NULL;
    if (stream == NULL) {
        int error = errno;
        close(descriptor);
        return error;
    }
    folder->device = own.st_dev;
    int error = 0;
    for (;;) {
        errno = 0;
        const struct dirent *found = readdir(stream);
        if (found == NULL) {
            error = errno;
            break;
        }
        if ((error = take(folder, descriptor, found, room, suffixes, count)) != 0)
            break;
    }
    closedir(stream);
    return error;
}

static PyObject *
nanoseconds(struct timespec time)
{
    if (time.tv_sec < MOST_SECONDS && time.tv_sec > -MOST_SECONDS)
        return PyLong_FromLongLong((long long)time.tv_sec * 1000000000LL + time.tv_nsec);
    PyObject *seconds = PyLong_FromLongLong(time.tv_sec), *billion = PyLong_FromLongLong(1000000000LL);
    PyObject *rest = PyLong_FromLong(time.tv_nsec), *whole = NULL, *sum = NULL;
    if (seconds != NULL && billion != NULL && rest != NULL && (whole = PyNumber_Multiply(seconds, billion)) != NULL)
        sum = PyNumber_Add(whole, rest);
    Py_XDECREF(seconds);
    Py_XDECREF(billion);
    Py_XDECREF(rest);
    Py_XDECREF(whole);
    return sum;
}

/* Give `item`, which may be NULL, to the tuple's next place. */
static int
put(PyObject *tuple, Py_ssize_t place, PyObject *item)
{
    return item == NULL ? -1 : PyTuple_SetItem(tuple, place, item);
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
version(const Entry *file)
{
    PyObject *numbers = PyTuple_New(5);
    if (numbers == NULL)
        return NULL;
    if (put(numbers, 0, PyLong_FromLongLong(file->size)) < 0 || put(numbers, 1, nanoseconds(file->mtime)) < 0 ||
        put(numbers, 2, nanoseconds(file->ctime)) < 0 ||
        put(numbers, 3, PyLong_FromUnsignedLongLong(file->inode)) < 0 ||
        put(numbers, 4, PyLong_FromLongLong((long long)file->device)) < 0) {
        Py_DECREF(numbers);
        return NULL;
    }
    /* Of numbers alone: the collector need not look at each of a hundred thousand. */
    PyObject_GC_UnTrack(numbers);
    return numbers;
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
path_of(const Folder *folder, const Entry *entry)
{
    PyObject *path = PyBytes_FromStringAndSize(NULL, folder->prefix_length + entry->length);
    char *text = path == NULL ? NULL : PyBytes_AsString(path);
    if (text == NULL)
        return NULL;
    memcpy(text, folder->prefix, (size_t)folder->prefix_length);
    memcpy(text + folder->prefix_length, folder->names + entry->name, entry->length);
    return path;
}

static PyObject *
told(const Folder *folder)
{
    if (folder->error != 0)
        return PyLong_FromLong(folder->error);
    PyObject *music = PyList_New(0), *versions = PyList_New(0), *others = PyList_New(0), *unreadable = PyList_New(0);
    PyObject *answer = PyTuple_New(5);
    int failed = music == NULL || versions == NULL || others == NULL || unreadable == NULL || answer == NULL;
    for (size_t i = 0; !failed && i < folder->count; i++) {
        const Entry *entry = &folder->entries[i];
        PyObject *path = path_of(folder, entry);
        if (entry->error != 0)
            failed = append(unreadable, pair(path, PyLong_FromLong(entry->error))) < 0;
        else if (entry->is_music)
            failed = append(music, path) < 0 || append(versions, version(entry)) < 0;
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
            folders[i].error = list(&folders[i], root, most < 0 ? 0 : (size_t)most, suffixes, suffix_count);
        Py_END_ALLOW_THREADS
        answers = PyList_New(0);
        for (Py_ssize_t i = 0; answers != NULL && i < count; i++) {
            if (append(answers, told(&folders[i])) < 0) {
                Py_DECREF(answers);
                answers = NULL;
            }
            forget(&folders[i]);
        }
    }
    for (Py_ssize_t i = 0; folders != NULL && i < count; i++)
        forget(&folders[i]);
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
