/* What the parts of `_plain_tags` share: bytes of a file that nobody reads past, and what is found in them.
 *
 * Functions that return int give 0 for fine and -1 for a file that is not plain, with or without an exception.
 */

#ifndef MUS_PLAIN_TAGS_H
#define MUS_PLAIN_TAGS_H

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#define HEAD_BYTES 4096
/* Tags of one kind that take more than this are not plain: lyrics of a whole opera, pictures as text. */
#define MOST_BYTES ((size_t)1024 * 1024)
#define MOST_BLOCKS 64
#define MOST_PARTS 4096

/* ---------------------------------------------------------------------------------------------------- bytes */

/* Bytes in memory, of which those before `at` are read. Whoever asks for more than is left gets nothing (0 as a
 * number), `failed` is set, and nothing is left from then on. */
typedef struct {
    const unsigned char *at;
    size_t left;
    int failed;
} Cursor;

static inline Cursor
take(Cursor *from, size_t count)
{
    if (count > from->left) {
        from->left = 0;
        from->failed = 1;
        return *from;
    }
    Cursor taken = {from->at, count, 0};
    from->at += count;
    from->left -= count;
    return taken;
}

static inline uint64_t
big_endian(Cursor *from, size_t bytes)
{
    Cursor digits = take(from, bytes);
    uint64_t number = 0;
    for (size_t i = 0; i < digits.left; i++)
        number = number << 8 | digits.at[i];
    return number;
}

static inline uint64_t
little_endian(Cursor *from, size_t bytes)
{
    Cursor digits = take(from, bytes);
    uint64_t number = 0;
    for (size_t i = digits.left; i > 0; i--)
        number = number << 8 | digits.at[i - 1];
    return number;
}

/* The last bytes, at most so many. */
static inline Cursor
last(Cursor all, size_t count)
{
    size_t skipped = all.left > count ? all.left - count : 0;
    return (Cursor){all.at + skipped, all.left - skipped, all.failed};
}

static inline int
begins(Cursor bytes, const char *text, size_t length)
{
    return bytes.left >= length && memcmp(bytes.at, text, length) == 0;
}

/* Of a text that is written in the code, which may have NULs. */
#define BEGINS(bytes, text) begins(bytes, text, sizeof(text) - 1)

typedef struct {
    uint64_t start;
    size_t length;
    unsigned char *bytes;
} Block;

/* A file, of which each place is read once. What was read is kept until the end, so cursors stay good. */
typedef struct {
    int descriptor;
    int failed; /* something could not be read, or too much was to be: nothing of this file counts */
    uint64_t size;
    size_t to_spend; /* bytes that may still be read */
    size_t count;
    Block blocks[MOST_BLOCKS]; /* the first is the head, HEAD_BYTES of it */
} File;

/* The bytes from a position on; fewer only where the file ends. */
Cursor at(File *file, uint64_t position, uint64_t count);

/* ----------------------------------------------------------------------------------------------------- open */

#ifdef __APPLE__
#define MODIFIED(found) ((found)->st_mtimespec)
#define CHANGED(found) ((found)->st_ctimespec)
#else
#define MODIFIED(found) ((found)->st_mtim)
#define CHANGED(found) ((found)->st_ctim)
#endif
#define OPEN_FLAGS (O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)

/* The descriptor of a regular file that lies below `prefix`, without a link to it, and its state; -1 for anything
 * else. */
int open_below(const char *path, const char *prefix, size_t prefix_length, struct stat *found);

/* -------------------------------------------------------------------------------------------- what is found */

/* Names of raw tags that the code has to know; the others are in `tag_values.py`. */
enum {
    TITLE, ARTIST, ALBUM, DATE, GENRE, COMMENT, LYRICS, COMPILATION, TRACK_NUMBER, TRACK_TOTAL, DISC_NUMBER,
    DISC_TOTAL, MUSICBRAINZ_TRACK, NAMES
};

typedef struct {
    char name[4]; /* of a frame or an atom */
    PyObject *field;
} Field;

#define MOST_FIELDS 32

typedef struct {
    PyObject *kept; /* a list of all that is here */
    PyObject *names[NAMES];
    PyObject *raw_name, *dated, *musicbrainz_owner, *audit;
    size_t id3_count, mp4_count;
    Field id3[MOST_FIELDS], mp4[MOST_FIELDS];
} State;

typedef struct {
    File file;
    const State *state;
    PyObject *raw; /* dict[str, list[str]] */
    const char *format;
    double seconds, kbps; /* of kbit/s 0 is unknown */
    uint32_t sample_rate, channels;
    int has_cover;
} Reading;

int read_mp3(Reading *reading);
/* Read the ID3v2 tag that begins there, and find where it ends. */
int read_id3v2(Reading *reading, uint64_t begin, uint64_t *end);
/* Of what may lie behind the sound of an MP3: an APEv2 tag is not plain, and the sound ends before an ID3v1 tag. */
int look_at_end(Reading *reading, uint64_t *end);
int read_flac(Reading *reading);
int read_ogg(Reading *reading, int is_opus);
int read_mp4(Reading *reading);
int read_wav(Reading *reading);

/* The raw name of a frame or an atom, borrowed; NULL, without an exception, if it is not among them. */
PyObject *field_of(const Field *fields, size_t count, Cursor name);
/* The raw name of a name that a tagger wrote; takes the reference of `name`, which may be NULL. */
PyObject *raw_name(const Reading *reading, PyObject *name);
int has(const Reading *reading, PyObject *name);
/* These take the reference of what is put, which may be NULL: -1 then. */
int put(Reading *reading, PyObject *name, PyObject *values);
int put_one(Reading *reading, PyObject *name, PyObject *value);
int put_further(Reading *reading, PyObject *name, PyObject *value);
int append(PyObject *values, PyObject *value);
PyObject *utf8(Cursor text);

#endif
