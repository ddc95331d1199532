/* MP4 (ISO/IEC 14496-12 and -14): one track of AAC (14496-1's descriptors) or ALAC, and iTunes's tags.
 *
 * Atoms say how long they are; each holds data or further atoms. They are walked in loops, one a level.
 */

#include "plain_tags.h"

/* Behind the end of any file; sums of two such are numbers still. */
#define FAR_AWAY (1ULL << 62)
#define LARGEST_NUMBER (1ULL << 53)
#define MOST_ENTRY 4096

typedef struct {
    Cursor name;
    uint64_t start, end; /* of the content */
} Atom;

/* The atoms between two positions. */
typedef struct {
    uint64_t position, end;
    int count;
} Walk;

static int
next_atom(File *file, Walk *walk, Atom *atom)
{
    if (walk->end < 8 || walk->position > walk->end - 8 || walk->count == MOST_PARTS)
        return 0;
    Cursor header = at(file, walk->position, 16);
    uint64_t content = 8, length = big_endian(&header, 4);
    atom->name = take(&header, 4);
    if (header.failed)
        return 0;
    if (length == 1) {
        length = big_endian(&header, 8);
        content = 16;
        if (header.failed)
            file->failed = 1;
    } else if (length == 0) {
        length = walk->end - walk->position;
    }
    if (length < content)
        return 0;
    if (length > FAR_AWAY)
        length = FAR_AWAY;
    atom->start = walk->position + content;
    walk->position += length;
    atom->end = walk->position;
    walk->count++;
    return 1;
}

/* How many atoms of a name there are; `found` is the first. */
static int
count_atoms(File *file, const char *name, uint64_t start, uint64_t end, Atom *found)
{
    Walk walk = {start, end, 0};
    Atom atom;
    int count = 0;
    while (next_atom(file, &walk, &atom))
        if (begins(atom.name, name, 4) && count++ == 0)
            *found = atom;
    return count;
}

/* -------------------------------------------------------------------------------------------------- sound */

/* mvhd: version, flags, times of creation and change, ticks a second, ticks. */
static int
measure_length(Reading *reading, const Atom *movie_header)
{
    Cursor header = at(&reading->file, movie_header->start, 32);
    size_t width = big_endian(&header, 1) != 0 ? 8 : 4;
    take(&header, 3 + 2 * width);
    uint64_t scale = big_endian(&header, 4), duration = big_endian(&header, width);
    if (header.failed || scale == 0 || duration > LARGEST_NUMBER)
        return -1;
    reading->seconds = (double)duration / (double)scale;
    return 0;
}

/* A descriptor's length, of seven bits a byte. */
static void
skip_length(Cursor *from)
{
    while (big_endian(from, 1) & 0x80)
        ;
}

/* An `mp4a` entry with `esds`: an elementary stream's descriptor (3) with a decoder's (4) in it. */
static int
measure_aac(Reading *reading, Cursor entry)
{
    take(&entry, 8);
    uint64_t version = big_endian(&entry, 2);
    take(&entry, 6);
    reading->channels = (uint32_t)big_endian(&entry, 2);
    take(&entry, 6);
    reading->sample_rate = (uint32_t)big_endian(&entry, 2);
    take(&entry, 6);
    Cursor name = take(&entry, 4);
    take(&entry, 4);
    if (version != 0 || !BEGINS(name, "esds") || big_endian(&entry, 1) != 3)
        return -1;
    skip_length(&entry);
    take(&entry, 3);
    if (big_endian(&entry, 1) != 4)
        return -1;
    skip_length(&entry);
    uint64_t object_type = big_endian(&entry, 1);
    take(&entry, 8);
    uint64_t average = big_endian(&entry, 4);
    if (entry.failed || object_type == 0)
        return -1;
    reading->format = "aac";
    reading->kbps = (double)average / 1000;
    return 0;
}

/* An `alac` entry with Apple's 24 bytes of settings in an atom of the same name. */
static int
measure_alac(Reading *reading, Cursor entry)
{
    take(&entry, 8);
    uint64_t version = big_endian(&entry, 2);
    take(&entry, 22);
    Cursor name = take(&entry, 4);
    take(&entry, 13);
    reading->channels = (uint32_t)big_endian(&entry, 1);
    take(&entry, 6);
    uint64_t average = big_endian(&entry, 4);
    reading->sample_rate = (uint32_t)big_endian(&entry, 4);
    if (version != 0 || !BEGINS(name, "alac") || entry.failed)
        return -1;
    reading->format = "alac";
    reading->kbps = (double)average / 1000;
    return 0;
}

static int
measure_track(Reading *reading, Atom atom)
{
    static const char *const path[] = {"mdia", "minf", "stbl", "stsd"};
    File *file = &reading->file;
    for (size_t i = 0; i < sizeof path / sizeof *path; i++)
        if (count_atoms(file, path[i], atom.start, atom.end, &atom) != 1)
            return -1;
    Walk entries = {atom.start + 8, atom.end, 0};
    Atom other;
    if (!next_atom(file, &entries, &atom) || next_atom(file, &entries, &other))
        return -1;
    uint64_t length = atom.end - atom.start;
    Cursor entry = at(file, atom.start, length < MOST_ENTRY ? length : MOST_ENTRY);
    if (BEGINS(atom.name, "mp4a"))
        return measure_aac(reading, entry);
    return BEGINS(atom.name, "alac") ? measure_alac(reading, entry) : -1;
}

/* --------------------------------------------------------------------------------------------------- tags */

/* Take the next atom off an item: 1, or 0 at its end, or -1 for a wrong length. */
static int
take_part(Cursor *item, Cursor *name, Cursor *content)
{
    if (item->left == 0)
        return 0;
    uint64_t length = big_endian(item, 4);
    if (item->failed || length < 8)
        return -1;
    *name = take(item, 4);
    *content = take(item, (size_t)length - 8);
    return item->failed ? -1 : 1;
}

/* The text in a `data` atom: four bytes of type, four of locale, UTF-8. */
static PyObject *
text_of(Cursor content)
{
    if (!BEGINS(content, "\0\0\0\1"))
        return NULL;
    take(&content, content.left < 8 ? content.left : 8);
    return utf8(content);
}

static int
add_texts(Reading *reading, PyObject *plain, Cursor item)
{
    PyObject *values = has(reading, plain) ? NULL : PyList_New(0);
    int more = values == NULL ? -1 : 1;
    while (more > 0) {
        Cursor name, content;
        more = take_part(&item, &name, &content);
        if (more > 0 && (!BEGINS(name, "data") || append(values, text_of(content)) != 0))
            more = -1;
    }
    if (more == 0)
        return put(reading, plain, values);
    Py_XDECREF(values);
    return -1;
}

/* A `----` item: who named it (`mean`), its name, its values. */
static int
add_custom(Reading *reading, Cursor item)
{
    Cursor name, content;
    if (take_part(&item, &name, &content) != 1 || !BEGINS(name, "mean") ||
        take_part(&item, &name, &content) != 1 || !BEGINS(name, "name"))
        return -1;
    take(&content, content.left < 4 ? content.left : 4);
    PyObject *plain = raw_name(reading, utf8(content));
    PyObject *values = plain == NULL || has(reading, plain) ? NULL : PyList_New(0);
    int more = values == NULL ? -1 : 1, error = -1;
    while (more > 0) {
        more = take_part(&item, &name, &content);
        if (more > 0 && (BEGINS(name, "name") || (BEGINS(name, "data") && append(values, text_of(content)) != 0)))
            more = -1;
    }
    if (more == 0)
        error = put(reading, plain, values);
    else
        Py_XDECREF(values);
    Py_XDECREF(plain);
    return error;
}

/* The only `data` in an item. */
static int
read_value(Cursor item, Cursor *value)
{
    Cursor name, more;
    if (take_part(&item, &name, value) != 1 || !BEGINS(name, "data"))
        return -1;
    return take_part(&item, &name, &more) == 0 ? 0 : -1;
}

/* trkn and disk: a number and a total, of 16 bits. */
static int
add_numbers(Reading *reading, Cursor item, int first_name)
{
    Cursor value;
    if (read_value(item, &value) != 0)
        return -1;
    take(&value, 10);
    for (int i = 0; i < 2; i++) {
        unsigned number = (unsigned)big_endian(&value, 2);
        PyObject *name = reading->state->names[first_name + i];
        if (number != 0 && put_one(reading, name, PyUnicode_FromFormat("%u", number)) != 0)
            return -1;
    }
    return value.failed ? -1 : 0;
}

static int
add_compilation(Reading *reading, Cursor item)
{
    Cursor value;
    if (read_value(item, &value) != 0)
        return -1;
    take(&value, value.left < 8 ? value.left : 8);
    int is_one = 0;
    for (; value.left > 0; take(&value, 1))
        is_one |= value.at[0] != 0;
    return put_one(reading, reading->state->names[COMPILATION], PyUnicode_FromString(is_one ? "1" : "0"));
}

static int
add_item(Reading *reading, Cursor name, Cursor item)
{
    const State *state = reading->state;
    if (BEGINS(name, "----"))
        return add_custom(reading, item);
    PyObject *plain = field_of(state->mp4, state->mp4_count, name);
    if (plain != NULL)
        return add_texts(reading, plain, item);
    if (BEGINS(name, "trkn"))
        return add_numbers(reading, item, TRACK_NUMBER);
    if (BEGINS(name, "disk"))
        return add_numbers(reading, item, DISC_NUMBER);
    return BEGINS(name, "cpil") ? add_compilation(reading, item) : 0;
}

static int
read_items(Reading *reading, const Atom *list)
{
    Walk walk = {list->start, list->end < reading->file.size ? list->end : reading->file.size, 0};
    Atom item;
    uint64_t bytes = 0;
    while (next_atom(&reading->file, &walk, &item)) {
        uint64_t length = item.end - item.start;
        if (BEGINS(item.name, "covr")) {
            reading->has_cover = 1;
            continue;
        }
        /* All of them together: thousands of large ones would fill a reader's memory. A genre may be a number. */
        bytes += length;
        if (bytes > MOST_BYTES || BEGINS(item.name, "gnre") ||
            add_item(reading, item.name, at(&reading->file, item.start, length)) != 0)
            return -1;
    }
    return 0;
}

int
read_mp4(Reading *reading)
{
    File *file = &reading->file;
    Atom movie = {.end = 0}, header = {.end = 0}, track = {.end = 0}, atom;
    Walk top = {0, file->size, 0};
    int movies = 0, headers = 0, tracks = 0, has_tags = 0;
    while (next_atom(file, &top, &atom)) {
        if (atom.end > file->size) /* cut short */
            return -1;
        if (BEGINS(atom.name, "moov") && movies++ == 0)
            movie = atom;
    }
    Walk inside = {movie.start, movie.end, 0};
    Atom list = {.end = 0};
    while (movies > 0 && next_atom(file, &inside, &atom)) {
        if (BEGINS(atom.name, "mvhd")) {
            header = atom;
            headers++;
        } else if (BEGINS(atom.name, "trak")) {
            track = atom;
            tracks++;
        } else if (BEGINS(atom.name, "udta") && has_tags++ == 0) {
            list = atom;
        }
    }
    if (headers == 0 || tracks != 1 || measure_length(reading, &header) != 0 || measure_track(reading, track) != 0)
        return -1;
    static const struct {
        const char *name;
        uint64_t skipped;
    } path[] = {{"meta", 4}, {"ilst", 0}};
    for (size_t i = 0; i < 2 && has_tags; i++) {
        uint64_t end = list.end < file->size ? list.end : file->size;
        has_tags = count_atoms(file, path[i].name, list.start, end, &list);
        list.start += path[i].skipped;
    }
    return has_tags ? read_items(reading, &list) : 0;
}
