/* The tags of files that are as most are, by a few small reads. Measured on 20,000 files (mp3, flac, m4a, ogg,
 * opus), us of CPU a file with its reads: tinytag or mutagen 86, this 6.
 *
 * Whatever is not quite plain is None here and goes to the libraries, which know how to read what taggers have done
 * in thirty years: other versions, compressed or encrypted frames, wrong lengths, several streams, values given
 * twice. So does a file that is cut short or cannot be read: `tag_reader.py` has the words for it.
 *
 * Files are untrusted. All their bytes are read through `Cursor`, which knows where they end.
 */

#include "plain_tags.h"

#include <stdlib.h>
#include <unistd.h>

#define LARGEST_BLOCK ((size_t)64 * 1024)
/* Beside tags of the greatest size: heads, tails, what lies around a picture. */
#define SMALL_READS ((size_t)256 * 1024)
/* Larger ones, of 16 TiB, have numbers that no double holds. */
#define LARGEST_FILE (1LL << 44)

/* ---------------------------------------------------------------------------------------------------- bytes */

static const unsigned char nothing[1];

static Cursor
failed(File *file)
{
    file->failed = 1;
    return (Cursor){nothing, 0, 1};
}

static int
fill(File *file, unsigned char *bytes, uint64_t position, size_t length)
{
    if (length > file->to_spend)
        return -1;
    file->to_spend -= length;
    ssize_t got;
    /* A disk far away takes its time. */
    Py_BEGIN_ALLOW_THREADS
    got = pread(file->descriptor, bytes, length, (off_t)position);
    Py_END_ALLOW_THREADS
    return got >= 0 && (size_t)got == length ? 0 : -1;
}

Cursor
at(File *file, uint64_t position, uint64_t count)
{
    if (file->failed)
        return failed(file);
    if (position >= file->size)
        return (Cursor){nothing, 0, 0};
    if (count > file->size - position)
        count = file->size - position;
    for (size_t i = file->count; i > 0; i--) {
        const Block *block = &file->blocks[i - 1];
        uint64_t offset = position - block->start;
        if (position >= block->start && offset <= block->length && count <= block->length - offset)
            return (Cursor){block->bytes + offset, (size_t)count, 0};
    }
    if (file->count == MOST_BLOCKS || count > file->to_spend)
        return failed(file);
    size_t length = HEAD_BYTES;
    const Block *before = &file->blocks[file->count - 1];
    /* Who goes on from one block into the next, as through the pages of an Ogg file, gets larger ones. */
    if (file->count > 1 && position >= before->start && position - before->start <= before->length)
        length = 2 * before->length < LARGEST_BLOCK ? 2 * before->length : LARGEST_BLOCK;
    if (length < count)
        length = (size_t)count;
    if (length > file->size - position)
        length = (size_t)(file->size - position);
    unsigned char *bytes = malloc(length);
    if (bytes == NULL || fill(file, bytes, position, length) != 0) {
        free(bytes);
        return failed(file);
    }
    file->blocks[file->count++] = (Block){position, length, bytes};
    return (Cursor){bytes, (size_t)count, 0};
}

/* ------------------------------------------------------------------------------------------------- raw tags */

PyObject *
field_of(const Field *fields, size_t count, Cursor name)
{
    for (size_t i = 0; i < count; i++)
        if (begins(name, fields[i].name, sizeof fields[i].name))
            return fields[i].field;
    return NULL;
}

PyObject *
raw_name(const Reading *reading, PyObject *name)
{
    if (name == NULL)
        return NULL;
    PyObject *plain = PyObject_CallFunctionObjArgs(reading->state->raw_name, name, NULL);
    Py_DECREF(name);
    return plain;
}

/* An error counts as a tag that is there: who asks is not plain then. */
int
has(const Reading *reading, PyObject *name)
{
    return PyDict_Contains(reading->raw, name) != 0;
}

int
put(Reading *reading, PyObject *name, PyObject *values)
{
    if (values == NULL)
        return -1;
    int error = PyDict_SetItem(reading->raw, name, values);
    Py_DECREF(values);
    return error;
}

int
put_one(Reading *reading, PyObject *name, PyObject *value)
{
    PyObject *values = value == NULL ? NULL : PyList_New(1);
    if (values == NULL) {
        Py_XDECREF(value);
        return -1;
    }
    PyList_SetItem(values, 0, value);
    return put(reading, name, values);
}

int
put_further(Reading *reading, PyObject *name, PyObject *value)
{
    PyObject *values = value == NULL ? NULL : PyDict_GetItemWithError(reading->raw, name);
    if (values != NULL)
        return append(values, value);
    if (PyErr_Occurred()) {
        Py_XDECREF(value);
        return -1;
    }
    return put_one(reading, name, value);
}

int
append(PyObject *values, PyObject *value)
{
    int error = value == NULL ? -1 : PyList_Append(values, value);
    Py_XDECREF(value);
    return error;
}

PyObject *
utf8(Cursor text)
{
    return PyUnicode_DecodeUTF8((const char *)text.at, (Py_ssize_t)text.left, NULL);
}

/* ----------------------------------------------------------------------------------------------- what it is */

/* What `audio_formats.sniff` takes for something else, though it may look like MP4 four bytes later. */
static int
is_another_kind(Cursor head)
{
    return BEGINS(head, "\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c") ||
           BEGINS(head, "MAC ") || BEGINS(head, "wvpk") || BEGINS(head, "MPCK") || BEGINS(head, "MP+") ||
           BEGINS(head, "DSD ") || BEGINS(head, "ADIF");
}

/* By the codec that is named first. */
static int
read_ogg_of(Reading *reading, Cursor head)
{
    for (; head.left > 0; take(&head, 1)) {
        if (BEGINS(head, "\x01vorbis"))
            return read_ogg(reading, 0);
        if (BEGINS(head, "OpusHead"))
            return read_ogg(reading, 1);
        if (BEGINS(head, "\x7f" "FLAC") || BEGINS(head, "Speex   "))
            return -1;
    }
    return -1;
}

static int
read_file(Reading *reading)
{
    Cursor head = at(&reading->file, 0, HEAD_BYTES), brand = head;
    if (BEGINS(head, "ID3") || BEGINS(head, "\xff"))
        return read_mp3(reading);
    if (BEGINS(head, "fLaC"))
        return read_flac(reading);
    if (BEGINS(head, "OggS"))
        return read_ogg_of(reading, head);
    if (BEGINS(head, "RIFF"))
        return read_wav(reading);
    take(&brand, 4);
    return BEGINS(brand, "ftyp") && !is_another_kind(head) ? read_mp4(reading) : -1;
}

static PyObject *
told(const Reading *reading)
{
    PyObject *kbps = reading->kbps == 0 ? Py_NewRef(Py_None) : PyFloat_FromDouble(reading->kbps);
    return Py_BuildValue("(OsdNIIN)", reading->raw, reading->format, reading->seconds, kbps, reading->sample_rate,
                         reading->channels, PyBool_FromLong(reading->has_cover));
}

/* What the file says, None where it is not plain. */
static PyObject *
read_descriptor(PyObject *module, int descriptor, long long size)
{
    if (size <= 0 || size > LARGEST_FILE)
        Py_RETURN_NONE;
    unsigned char head[HEAD_BYTES];
    size_t length = size < HEAD_BYTES ? (size_t)size : HEAD_BYTES;
    Reading reading = {.state = PyModule_GetState(module)};
    File *file = &reading.file;
    file->descriptor = descriptor;
    file->size = (uint64_t)size;
    file->to_spend = MOST_BYTES + SMALL_READS;
    if (fill(file, head, 0, length) != 0)
        Py_RETURN_NONE;
    file->blocks[file->count++] = (Block){0, length, head};
    reading.raw = PyDict_New();
    PyObject *answer = NULL;
    int is_plain = reading.raw != NULL && read_file(&reading) == 0 && !file->failed;
    for (size_t i = 1; i < file->count; i++)
        free(file->blocks[i].bytes);
    if (is_plain && reading.seconds > 0 && reading.sample_rate > 0 && reading.channels > 0)
        answer = told(&reading);
    Py_XDECREF(reading.raw);
    if (answer != NULL)
        return answer;
    /* Letters that are none in their encoding; and where memory is short a library may do with less. */
    if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_ValueError) && !PyErr_ExceptionMatches(PyExc_MemoryError))
        return NULL;
    PyErr_Clear();
    Py_RETURN_NONE;
}

static PyObject *
read_plain(PyObject *module, PyObject *arguments)
{
    int descriptor;
    long long size;
    if (!PyArg_ParseTuple(arguments, "iL:read_plain", &descriptor, &size))
        return NULL;
    return read_descriptor(module, descriptor, size);
}

#define NANOSECONDS(time) ((long long)(time).tv_sec * 1000000000 + (time).tv_nsec)

static PyObject *
open_plain(PyObject *module, PyObject *arguments)
{
    PyObject *path;
    char *path_text;
    const char *prefix;
    Py_ssize_t prefix_length;
    struct stat before, after;
    int descriptor;
    if (!PyArg_ParseTuple(arguments, "Sy#:open_plain", &path, &prefix, &prefix_length) ||
        PyBytes_AsStringAndSize(path, &path_text, NULL) < 0) /* a NUL is an error */
        return NULL;
    /* Whoever watches what is opened, by an audit hook, sees this as any other. */
    State *state = PyModule_GetState(module);
    PyObject *audited = PyObject_CallFunction(state->audit, "sOOi", "open", path, Py_None, OPEN_FLAGS);
    if (audited == NULL)
        return NULL;
    Py_DECREF(audited);
    Py_BEGIN_ALLOW_THREADS
    descriptor = open_below(path_text, prefix, (size_t)prefix_length, &before);
    Py_END_ALLOW_THREADS
    if (descriptor < 0)
        Py_RETURN_NONE;
    PyObject *plain = read_descriptor(module, descriptor, (long long)before.st_size);
    int has_changed = 0;
    if (plain == NULL || plain != Py_None) {
        has_changed = fstat(descriptor, &after) != 0 || after.st_size != before.st_size ||
                      NANOSECONDS(MODIFIED(&after)) != NANOSECONDS(MODIFIED(&before));
        close(descriptor);
        descriptor = -1;
    }
    if (plain == NULL)
        return NULL;
    PyObject *answer = Py_BuildValue("(LLLLL)NNi", (long long)before.st_size, NANOSECONDS(MODIFIED(&before)),
                                     NANOSECONDS(CHANGED(&before)), (long long)before.st_ino,
                                     (long long)before.st_dev, plain, PyBool_FromLong(has_changed), descriptor);
    if (answer == NULL && descriptor >= 0)
        close(descriptor);
    return answer;
}

/* -------------------------------------------------------------------------------------------------- module */

static const char *const names[NAMES] = {
    [TITLE] = "title",
    [ARTIST] = "artist",
    [ALBUM] = "album",
    [DATE] = "date",
    [GENRE] = "genre",
    [COMMENT] = "comment",
    [LYRICS] = "lyrics",
    [COMPILATION] = "compilation",
    [TRACK_NUMBER] = "tracknumber",
    [TRACK_TOTAL] = "tracktotal",
    [DISC_NUMBER] = "discnumber",
    [DISC_TOTAL] = "disctotal",
    [MUSICBRAINZ_TRACK] = "musicbrainztrackid",
};

/* Keep an object as long as the module; borrowed then. NULL for NULL. */
static PyObject *
keep(State *state, PyObject *object)
{
    return append(state->kept, object) == 0 ? object : NULL;
}

/* The fields of a dict from names of four bytes to raw names. */
static int
fields_of(State *state, PyObject *dict, Field *fields, size_t *count)
{
    if (dict == NULL)
        return -1;
    PyObject *name, *field;
    Py_ssize_t position = 0;
    while (PyDict_Next(dict, &position, &name, &field)) {
        char *text;
        Py_ssize_t length;
        if (PyBytes_AsStringAndSize(name, &text, &length) < 0)
            return -1;
        if (length != sizeof fields->name || *count == MOST_FIELDS) {
            PyErr_SetString(PyExc_ValueError, "a name is not of four bytes, or there are too many");
            return -1;
        }
        memcpy(fields[*count].name, text, sizeof fields->name);
        fields[(*count)++].field = field;
    }
    return 0;
}

static int
prepare(PyObject *module)
{
    State *state = PyModule_GetState(module);
    if ((state->kept = PyList_New(0)) == NULL)
        return -1;
    for (int i = 0; i < NAMES; i++)
        if ((state->names[i] = keep(state, PyUnicode_InternFromString(names[i]))) == NULL)
            return -1;
    PyObject *values = keep(state, PyImport_ImportModule("mus.library.tag_values"));
    if (values == NULL ||
        (state->raw_name = keep(state, PyObject_GetAttrString(values, "raw_name"))) == NULL ||
        (state->dated = keep(state, PyObject_GetAttrString(values, "dated"))) == NULL ||
        (state->musicbrainz_owner = keep(state, PyObject_GetAttrString(values, "MUSICBRAINZ_OWNER"))) == NULL)
        return -1;
    PyObject *sys = keep(state, PyImport_ImportModule("sys"));
    if (sys == NULL || (state->audit = keep(state, PyObject_GetAttrString(sys, "audit"))) == NULL)
        return -1;
    PyObject *frames = keep(state, PyObject_GetAttrString(values, "ID3_FRAMES"));
    PyObject *atoms = frames == NULL ? NULL : keep(state, PyObject_GetAttrString(values, "MP4_ATOMS"));
    if (fields_of(state, frames, state->id3, &state->id3_count) < 0)
        return -1;
    return fields_of(state, atoms, state->mp4, &state->mp4_count);
}

static int
traverse(PyObject *module, visitproc visit, void *arg)
{
    State *state = PyModule_GetState(module);
    if (state != NULL)
        Py_VISIT(state->kept);
    return 0;
}

static int
forget(PyObject *module)
{
    State *state = PyModule_GetState(module);
    if (state != NULL)
        Py_CLEAR(state->kept);
    return 0;
}

static void
leave(void *module)
{
    forget(module);
}

static PyMethodDef functions[] = {
    {"read_plain", read_plain, METH_VARARGS, "read_plain(descriptor, size): see tag_reader.py"},
    {"open_plain", open_plain, METH_VARARGS, "open_plain(path, prefix): see tag_reader.py"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{Py_mod_exec, prepare}, {0, NULL}};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "mus.library._plain_tags",
    .m_size = sizeof(State),
    .m_methods = functions,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = forget,
    .m_free = leave,
};

PyMODINIT_FUNC
PyInit__plain_tags(void)
{
    return PyModuleDef_Init(&definition);
}
