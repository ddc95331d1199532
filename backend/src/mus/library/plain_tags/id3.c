/* ID3v2.3 and 2.4 (id3.org), as MP3 files begin with them, and ID3v1 only to see that it adds nothing.
 *
 * WAV files have an ID3v2 tag in a chunk. */

#include "plain_tags.h"

#define ID3V1_BYTES 128
#define ID3V1_GENRES 192
/* From "Crossover" on, which tinytag 2.3 leaves out of its list: see `tag_layout.py`. */
#define FIRST_MISNUMBERED_GENRE 139

/* --------------------------------------------------------------------------------------------------- ID3v2 */

/* Text as the encoding says that opens its frame; NULL, perhaps without an exception, for what is none. */
static PyObject *
text_of(unsigned char encoding, Cursor data)
{
    const char *bytes = (const char *)data.at;
    Py_ssize_t length = (Py_ssize_t)data.left;
    int order = encoding == 2; /* 0 goes by the byte order mark */
    switch (encoding) {
    case 0:
        return PyUnicode_DecodeLatin1(bytes, length, NULL);
    case 1:
    case 2:
        return PyUnicode_DecodeUTF16(bytes, length, NULL, &order);
    case 3:
        return PyUnicode_DecodeUTF8(bytes, length, NULL);
    default:
        return NULL;
    }
}

/* The strings of a frame, those between NULs, without the ones after the last. */
static PyObject *
decoded(unsigned char encoding, Cursor data)
{
    PyObject *text = text_of(encoding, data), *strings = text == NULL ? NULL : PyList_New(0);
    if (strings == NULL) {
        Py_XDECREF(text);
        return NULL;
    }
    Py_ssize_t end = PyUnicode_GetLength(text), start = 0, error = 0;
    while (end > 0 && PyUnicode_ReadChar(text, end - 1) == 0)
        end--;
    int has_several = end > 0 && PyUnicode_FindChar(text, 0, 0, end, 1) >= 0;
    while (error == 0 && start <= end) {
        Py_ssize_t stop = has_several ? PyUnicode_FindChar(text, 0, start, end, 1) : -1;
        if (stop < 0)
            stop = end;
        Py_ssize_t first = start;
        /* A byte order mark opens each further one too. */
        while (has_several && first < stop && PyUnicode_ReadChar(text, first) == 0xFEFF)
            first++;
        error = append(strings, PyUnicode_Substring(text, first, stop));
        start = stop + 1;
    }
    Py_DECREF(text);
    if (error == 0)
        return strings;
    Py_DECREF(strings);
    return NULL;
}

/* Take the first string off. Borrowed from `strings` before, the caller's then. */
static PyObject *
without_first(PyObject *strings)
{
    PyObject *first = PyList_GetItem(strings, 0);
    Py_XINCREF(first);
    if (first != NULL && PyList_SetSlice(strings, 0, 1, NULL) < 0)
        Py_CLEAR(first);
    return first;
}

static int
add_custom(Reading *reading, unsigned char encoding, Cursor data)
{
    PyObject *values = decoded(encoding, data);
    PyObject *plain = values == NULL ? NULL : raw_name(reading, without_first(values));
    if (plain == NULL || has(reading, plain)) {
        Py_XDECREF(values);
        Py_XDECREF(plain);
        return -1;
    }
    int error = put(reading, plain, values);
    Py_DECREF(plain);
    return error;
}

/* COMM and USLT: a language, a description, and the text. One with a description is for a program. */
static int
add_comment(Reading *reading, int is_lyrics, unsigned char encoding, Cursor data)
{
    Cursor text = last(data, data.left > 3 ? data.left - 3 : 0);
    PyObject *values = decoded(encoding, text);
    PyObject *description = values == NULL ? NULL : without_first(values);
    int error = -1;
    if (description != NULL && PyUnicode_GetLength(description) > 0) {
        error = is_lyrics ? -1 : 0;
    } else if (description != NULL) {
        PyObject *line_end = PyUnicode_FromStringAndSize("\n", 1);
        PyObject *joined = line_end == NULL ? NULL : PyUnicode_Join(line_end, values);
        Py_XDECREF(line_end);
        error = put_further(reading, reading->state->names[is_lyrics ? LYRICS : COMMENT], joined);
    }
    Py_XDECREF(description);
    Py_XDECREF(values);
    return error;
}

/* UFID: who gave it, a NUL, the identifier. */
static int
add_identifier(Reading *reading, Cursor data)
{
    char *owner;
    Py_ssize_t length;
    if (PyBytes_AsStringAndSize(reading->state->musicbrainz_owner, &owner, &length) < 0)
        return -1;
    if (!begins(data, owner, (size_t)length) || (data.left > (size_t)length && data.at[length] != 0))
        return 0;
    take(&data, (size_t)length);
    if (data.left > 0)
        take(&data, 1);
    PyObject *identifier = PyUnicode_DecodeASCII((const char *)data.at, (Py_ssize_t)data.left, NULL);
    return put_one(reading, reading->state->names[MUSICBRAINZ_TRACK], identifier);
}

/* A genre by its number is for a library, which has the list. */
static int
is_coded(PyObject *genre)
{
    if (PyUnicode_GetLength(genre) == 0)
        return 0;
    Py_UCS4 first = PyUnicode_ReadChar(genre, 0);
    if (first == '(' || PyUnicode_CompareWithASCIIString(genre, "RX") == 0 ||
        PyUnicode_CompareWithASCIIString(genre, "CR") == 0)
        return 1;
    if (first < 0x80 && (first < '0' || first > '9'))
        return 0;
    PyObject *is_digits = PyObject_CallMethod(genre, "isdigit", NULL);
    Py_XDECREF(is_digits);
    return is_digits != Py_False;
}

/* As bytes, before they are decoded: tinytag reads "17" and "(4)(51)Eurodisco" by the first number at most. */
static int
begins_coded(Cursor data)
{
    Cursor text = {data.at, data.left < 16 ? data.left : 16, 0};
    take(&text, 1);
    while (text.left > 0 && (text.at[0] == 0 || memchr("\xff\xfe\xef\xbb\xbf", text.at[0], 5) != NULL))
        take(&text, 1);
    return text.left > 0 && (text.at[0] == '(' || (text.at[0] >= '0' && text.at[0] <= '9'));
}

static int
add_genres(Reading *reading, unsigned char encoding, Cursor data)
{
    PyObject *genres = decoded(encoding, data);
    if (genres == NULL)
        return -1;
    for (Py_ssize_t i = 0; i < PyList_Size(genres); i++) {
        if (is_coded(PyList_GetItem(genres, i))) {
            Py_DECREF(genres);
            return -1;
        }
    }
    return put(reading, reading->state->names[GENRE], genres);
}

/* The one string of a frame that has one. */
static int
read_only_one(PyObject **kept, unsigned char encoding, Cursor data)
{
    PyObject *strings = decoded(encoding, data);
    int is_one = strings != NULL && PyList_Size(strings) == 1;
    if (is_one)
        *kept = Py_NewRef(PyList_GetItem(strings, 0));
    Py_XDECREF(strings);
    return is_one ? 0 : -1;
}

/* What comes once in a tag. */
typedef struct {
    uint32_t seen[MOST_PARTS / 16]; /* names of frames */
    size_t count;
    PyObject *year, *day;
} Once;

static int
note_seen(Once *once, Cursor name)
{
    uint32_t number = (uint32_t)big_endian(&name, 4);
    for (size_t i = 0; i < once->count; i++)
        if (once->seen[i] == number)
            return -1;
    if (once->count == sizeof once->seen / sizeof *once->seen)
        return -1;
    once->seen[once->count++] = number;
    return 0;
}

static int
add_frame(Reading *reading, Once *once, Cursor name, Cursor data)
{
    Cursor text = data;
    unsigned char encoding = (unsigned char)big_endian(&text, 1);
    if (BEGINS(name, "TXXX"))
        return add_custom(reading, encoding, text);
    if (BEGINS(name, "COMM") || BEGINS(name, "USLT"))
        return add_comment(reading, name.at[0] == 'U', encoding, text);
    if (note_seen(once, name) != 0 || BEGINS(name, "SYLT"))
        return -1;
    if (BEGINS(name, "UFID"))
        return add_identifier(reading, data);
    PyObject *field = field_of(reading->state->id3, reading->state->id3_count, name);
    if (field != NULL)
        return has(reading, field) ? -1 : put(reading, field, decoded(encoding, text));
    if (BEGINS(name, "TCON"))
        return begins_coded(data) ? -1 : add_genres(reading, encoding, text);
    if (BEGINS(name, "TYER"))
        return read_only_one(&once->year, encoding, text);
    if (BEGINS(name, "TDAT"))
        return read_only_one(&once->day, encoding, text);
    return 0;
}

/* ID3v2.3's date, of a frame for the year and one for day and month. */
static int
add_date(Reading *reading, const Once *once)
{
    if (once->year == NULL || PyUnicode_GetLength(once->year) == 0)
        return 0;
    PyObject *date = reading->state->names[DATE];
    if (has(reading, date))
        return -1;
    PyObject *day = once->day == NULL ? PyUnicode_FromStringAndSize("", 0) : Py_NewRef(once->day);
    if (day == NULL)
        return -1;
    PyObject *dated = PyObject_CallFunctionObjArgs(reading->state->dated, once->year, day, NULL);
    Py_DECREF(day);
    return put_one(reading, date, dated);
}

/* A number of four bytes that have seven bits each, as nothing in a tag is to look like the start of a frame. */
static int
synchsafe(Cursor *from, uint32_t *number)
{
    uint32_t digits = (uint32_t)big_endian(from, 4);
    *number = (digits & 0x7F) | (digits & 0x7F00) >> 1 | (digits & 0x7F0000) >> 2 | (digits & 0x7F000000) >> 3;
    return from->failed || digits & 0x80808080 ? -1 : 0;
}

static int
is_alphanumeric(Cursor name)
{
    for (size_t i = 0; i < name.left; i++) {
        unsigned char letter = name.at[i];
        if (!((letter >= '0' && letter <= '9') || (letter >= 'A' && letter <= 'Z') ||
              (letter >= 'a' && letter <= 'z')))
            return 0;
    }
    return 1;
}

static int
read_frames(Reading *reading, Once *once, unsigned version, uint64_t position, uint64_t end)
{
    for (int part = 0; part < MOST_PARTS; part++) {
        if (position + 10 > end)
            return 0;
        Cursor header = at(&reading->file, position, 10), name = take(&header, 4);
        if (BEGINS(name, "\0\0\0\0"))
            return 0;
        uint32_t length;
        if (version == 3)
            length = (uint32_t)big_endian(&header, 4);
        else if (synchsafe(&header, &length) != 0)
            return -1;
        take(&header, 1);
        /* Sizes that are not synchsafe in 2.4 (an iTunes bug) show as a next frame without a name. */
        if (big_endian(&header, 1) != 0 || header.failed || !is_alphanumeric(name) ||
            length > end - position - 10)
            return -1;
        if (BEGINS(name, "APIC")) {
            reading->has_cover = 1;
        } else if (name.at[0] == 'T' || BEGINS(name, "COMM") || BEGINS(name, "USLT") || BEGINS(name, "SYLT") ||
                   BEGINS(name, "UFID")) {
            if (length > MOST_BYTES)
                return -1;
            Cursor data = at(&reading->file, position + 10, length);
            if (data.left != length || (length > 0 && add_frame(reading, once, name, data) != 0))
                return -1;
        } else if (BEGINS(name, "RVA2") || BEGINS(name, "XRVA") || BEGINS(name, "LINK") || BEGINS(name, "AENC")) {
            return -1;
        }
        position += 10 + (uint64_t)length;
    }
    return -1;
}

int
read_id3v2(Reading *reading, uint64_t begin, uint64_t *end)
{
    Cursor header = at(&reading->file, begin + 3, 7);
    unsigned version = (unsigned)big_endian(&header, 1);
    take(&header, 1);
    unsigned flags = (unsigned)big_endian(&header, 1);
    uint32_t size;
    /* Unsynchronisation, an extended header, or version 2.2. */
    if (synchsafe(&header, &size) != 0 || (version != 3 && version != 4) || flags & 0xE0)
        return -1;
    Once once = {.count = 0};
    uint64_t frames = begin + 10;
    int error = read_frames(reading, &once, version, frames, frames + size);
    if (error == 0)
        error = add_date(reading, &once);
    Py_XDECREF(once.year);
    Py_XDECREF(once.day);
    *end = frames + size + (version == 4 && flags & 0x10 ? 10 : 0);
    return error;
}

/* --------------------------------------------------------------------------------------------------- ID3v1 */

static int
is_blank(Cursor text)
{
    for (size_t i = 0; i < text.left; i++)
        if (text.at[i] != 0 && text.at[i] != ' ')
            return 0;
    return 1;
}

/* What only the old tag says is for a library to put in its place. */
static int
refuse_more_in_id3v1(const Reading *reading, Cursor tag)
{
    static const struct {
        size_t length;
        int name;
    } texts[] = {{30, TITLE}, {30, ARTIST}, {30, ALBUM}, {4, DATE}, {28, COMMENT}};
    PyObject *const *names = reading->state->names;
    take(&tag, 3);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (!is_blank(take(&tag, texts[i].length)) && !has(reading, names[texts[i].name]))
            return -1;
    int is_numbered = big_endian(&tag, 1) == 0 && big_endian(&tag, 1) != 0;
    Cursor genre = last(tag, 1);
    if ((is_numbered && !has(reading, names[TRACK_NUMBER])) || tag.failed)
        return -1;
    return genre.at[0] < ID3V1_GENRES && !has(reading, names[GENRE]) ? -1 : 0;
}

int
look_at_end(Reading *reading, uint64_t *end)
{
    uint64_t size = reading->file.size;
    Cursor tail = at(&reading->file, size > 160 ? size - 160 : 0, 160);
    Cursor old = last(tail, ID3V1_BYTES);
    if (BEGINS(last(tail, 32), "APETAGEX"))
        return -1;
    if (!BEGINS(old, "TAG"))
        return 0;
    Cursor before = {tail.at, tail.left - old.left, 0};
    unsigned char genre = last(old, 1).at[0];
    if (BEGINS(last(before, 32), "APETAGEX") || (genre >= FIRST_MISNUMBERED_GENRE && genre < ID3V1_GENRES))
        return -1;
    *end -= ID3V1_BYTES;
    return old.left == ID3V1_BYTES ? refuse_more_in_id3v1(reading, old) : -1;
}
