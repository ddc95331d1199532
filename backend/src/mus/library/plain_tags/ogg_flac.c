/* FLAC (RFC 9639), Ogg (RFC 3533) with Vorbis or Opus (RFC 7845), and the Vorbis comment that they all have. */

#include "plain_tags.h"

#include <stdlib.h>

#define STREAMINFO 0
#define VORBIS_COMMENT 4
#define PICTURE 6
#define OPUS_RATE 48000
/* Whole numbers up to here are doubles too. */
#define LARGEST_NUMBER (1LL << 53)

/* ------------------------------------------------------------------------------------------ Vorbis comment */

/* Lengths with 32 bits, the lowest byte first: who wrote it, how many comments, each as NAME=value. */
static int
read_comment(Reading *reading, Cursor data, int *has_picture)
{
    if (data.left == 0)
        return 0;
    take(&data, (size_t)little_endian(&data, 4));
    uint64_t count = little_endian(&data, 4);
    for (; count > 0 && !data.failed; count--) {
        Cursor value = take(&data, (size_t)little_endian(&data, 4)), name = value;
        const unsigned char *equals = data.failed ? NULL : memchr(value.at, '=', value.left);
        if (equals == NULL)
            return -1;
        name.left = (size_t)(equals - value.at);
        take(&value, name.left + 1);
        PyObject *plain = PyUnicode_DecodeASCII((const char *)name.at, (Py_ssize_t)name.left, NULL);
        if ((plain = raw_name(reading, plain)) == NULL)
            return -1;
        int error = 0;
        if (PyUnicode_CompareWithASCIIString(plain, "metadatablockpicture") == 0 ||
            PyUnicode_CompareWithASCIIString(plain, "coverart") == 0)
            *has_picture = 1;
        else
            error = put_further(reading, plain, utf8(value));
        Py_DECREF(plain);
        if (error != 0)
            return -1;
    }
    return data.failed ? -1 : 0;
}

/* ---------------------------------------------------------------------------------------------------- FLAC */

/* STREAMINFO: block and frame sizes, then 20 bits of rate, 3 of channels, 5 of depth, 36 of samples. */
static int
measure_flac(Reading *reading, Cursor info, uint64_t sound)
{
    take(&info, 10);
    uint64_t numbers = big_endian(&info, 8), samples = numbers & ((1ULL << 36) - 1);
    reading->sample_rate = (uint32_t)(numbers >> 44);
    if (info.failed || reading->sample_rate == 0 || samples == 0)
        return -1;
    reading->format = "flac";
    reading->channels = (uint32_t)(numbers >> 41 & 7) + 1;
    reading->seconds = (double)samples / reading->sample_rate;
    reading->kbps = (double)((reading->file.size - sound) * 8) / reading->seconds / 1000;
    return 0;
}

int
read_flac(Reading *reading)
{
    File *file = &reading->file;
    Cursor info = {NULL, 0, 0}, comment = {NULL, 0, 0};
    uint64_t position = 4;
    for (int part = 0, is_last = 0; part < MOST_PARTS && !is_last; part++) {
        Cursor header = at(file, position, 4);
        unsigned kind = (unsigned)big_endian(&header, 1);
        uint64_t length = big_endian(&header, 3);
        is_last = kind >= 0x80;
        kind &= 0x7F;
        /* A reserved kind is a wrong block size before it, which the libraries find their way around. */
        if (header.failed || kind > PICTURE)
            return -1;
        Cursor *wanted = kind == STREAMINFO ? &info : kind == VORBIS_COMMENT ? &comment : NULL;
        if (wanted != NULL && wanted->at == NULL) {
            if (length > MOST_BYTES)
                return -1;
            *wanted = at(file, position + 4, length);
        }
        reading->has_cover |= kind == PICTURE;
        position += 4 + length;
    }
    if (info.at == NULL || position >= file->size || measure_flac(reading, info, position) != 0)
        return -1;
    int no_cover = 0; /* FLAC has blocks for pictures: those in the comment are passed over */
    return comment.at == NULL ? 0 : read_comment(reading, comment, &no_cover);
}

/* ----------------------------------------------------------------------------------------------------- Ogg */

/* The pages of a file that holds one stream. */
typedef struct {
    uint64_t position;
    int is_known;
    uint64_t serial;
    unsigned char *joined[2]; /* packets that lie on several pages */
} Pages;

/* The packet that begins with the next page; what else those pages hold is passed over. */
static int
read_packet(File *file, Pages *pages, int number, Cursor *packet)
{
    uint64_t begin = pages->position;
    size_t used = 0;
    while (pages->position - begin <= MOST_BYTES) {
        Cursor header = at(file, pages->position, 27), page = header;
        take(&header, 14);
        uint64_t serial = big_endian(&header, 4);
        take(&header, 8);
        size_t count = (size_t)big_endian(&header, 1);
        if (header.failed || !BEGINS(page, "OggS\0") || (pages->is_known && serial != pages->serial))
            return -1;
        pages->is_known = 1;
        pages->serial = serial;
        /* How long each segment is. A packet goes on behind one of 255. */
        Cursor lengths = at(file, pages->position + 27, count);
        if (lengths.left != count)
            return -1;
        uint64_t start = pages->position + 27 + count, own = 0, all = 0;
        int is_whole = 0;
        for (size_t i = 0; i < count; i++) {
            all += lengths.at[i];
            if (!is_whole)
                own = all;
            is_whole |= lengths.at[i] < 255;
        }
        Cursor part = at(file, start, own);
        pages->position = start + all;
        if (part.left != own)
            return -1;
        if (is_whole && used == 0) {
            *packet = part;
            return 0;
        }
        unsigned char *joined = realloc(pages->joined[number], used + part.left + 1);
        if (joined == NULL)
            return -1;
        memcpy(joined + used, part.at, part.left);
        pages->joined[number] = joined;
        used += part.left;
        if (is_whole) {
            *packet = (Cursor){joined, used, 0};
            return 0;
        }
    }
    return -1;
}

/* The position, in samples, that the file's last page gives. */
static int
read_last_position(File *file, const Pages *pages, int64_t *position)
{
    for (size_t count = 8192; count <= 65536; count *= 8) {
        Cursor tail = at(file, file->size > count ? file->size - count : 0, count);
        for (size_t length = 5; length <= tail.left; length++) {
            Cursor page = last(tail, length);
            if (!BEGINS(page, "OggS\0"))
                continue;
            take(&page, 6);
            *position = (int64_t)little_endian(&page, 8);
            uint64_t serial = big_endian(&page, 4), rest = 0;
            take(&page, 8);
            Cursor lengths = take(&page, (size_t)big_endian(&page, 1));
            for (size_t i = 0; i < lengths.left; i++)
                rest += lengths.at[i];
            return page.failed || rest != page.left || *position < 0 || *position > LARGEST_NUMBER ||
                   serial != pages->serial ? -1 : 0;
        }
    }
    return -1;
}

static int
measure_vorbis(Reading *reading, Cursor head, int64_t position)
{
    take(&head, 11);
    reading->channels = (uint32_t)big_endian(&head, 1);
    reading->sample_rate = (uint32_t)little_endian(&head, 4);
    int32_t highest = (int32_t)little_endian(&head, 4), nominal = (int32_t)little_endian(&head, 4);
    int32_t lowest = (int32_t)little_endian(&head, 4);
    if (head.failed || reading->sample_rate == 0 || position == 0 || (0 < highest && highest < nominal) ||
        (0 < nominal && nominal < lowest))
        return -1;
    reading->format = "vorbis";
    reading->seconds = (double)position / reading->sample_rate;
    reading->kbps = nominal > 0 ? nominal / 1000.0 : (double)(reading->file.size * 8) / reading->seconds / 1000;
    return 0;
}

static int
measure_opus(Reading *reading, Cursor head, int64_t position, uint64_t sound)
{
    take(&head, 8);
    unsigned version = (unsigned)big_endian(&head, 1);
    reading->channels = (uint32_t)big_endian(&head, 1);
    int64_t skipped = (int64_t)little_endian(&head, 2);
    if (head.failed || version >> 4 || position <= skipped || sound >= reading->file.size)
        return -1;
    reading->format = "opus";
    reading->sample_rate = OPUS_RATE;
    reading->seconds = (double)(position - skipped) / OPUS_RATE;
    reading->kbps = (double)((reading->file.size - sound) * 8) / reading->seconds / 1000;
    return 0;
}

static int
read_packets(Reading *reading, int is_opus, Pages *pages)
{
    Cursor head, tags;
    int64_t position;
    if (read_packet(&reading->file, pages, 0, &head) != 0 || read_packet(&reading->file, pages, 1, &tags) != 0 ||
        read_last_position(&reading->file, pages, &position) != 0)
        return -1;
    if (is_opus ? !BEGINS(head, "OpusHead") || !BEGINS(tags, "OpusTags")
                : !BEGINS(head, "\x01vorbis") || !BEGINS(tags, "\x03vorbis"))
        return -1;
    if (is_opus ? measure_opus(reading, head, position, pages->position) != 0
                : measure_vorbis(reading, head, position) != 0)
        return -1;
    take(&tags, is_opus ? 8 : 7);
    return read_comment(reading, tags, &reading->has_cover);
}

int
read_ogg(Reading *reading, int is_opus)
{
    Pages pages = {.position = 0};
    int error = read_packets(reading, is_opus, &pages);
    free(pages.joined[0]);
    free(pages.joined[1]);
    return error;
}
