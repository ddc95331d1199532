/* WAV: chunks of RIFF (Microsoft and IBM, 1991), the sound's form in `fmt `, an ID3v2 tag in `id3 `. */

#include "plain_tags.h"

#define PCM 0x0001
#define FLOAT 0x0003
#define EXTENSIBLE 0xFFFE
/* What follows the form's own numbers there: 2 bytes of length, 2 of bits, 4 of speakers, then the form itself. */
#define EXTENSION_BYTES 8

/* The form of uncompressed sound, whose length its size tells. */
static int
read_form(Reading *reading, Cursor form, uint32_t *bytes_a_second)
{
    unsigned kind = (unsigned)little_endian(&form, 2);
    reading->channels = (uint32_t)little_endian(&form, 2);
    reading->sample_rate = (uint32_t)little_endian(&form, 4);
    take(&form, 4); /* said by the other numbers too, and wrong in some files */
    uint32_t block = (uint32_t)little_endian(&form, 2);
    take(&form, 2);
    if (kind == EXTENSIBLE) {
        take(&form, EXTENSION_BYTES);
        kind = (unsigned)little_endian(&form, 2);
    }
    uint64_t rate = (uint64_t)block * reading->sample_rate;
    if (form.failed || (kind != PCM && kind != FLOAT) || rate == 0 || rate > UINT32_MAX)
        return -1;
    *bytes_a_second = (uint32_t)rate;
    return 0;
}

/* The older list of tags, INFO, only where it says no more than what wrote the file. */
static int
says_nothing(Cursor list)
{
    if (!BEGINS(list, "INFO"))
        return 1;
    take(&list, 4);
    while (list.left > 0) {
        Cursor name = take(&list, 4);
        uint64_t length = little_endian(&list, 4);
        take(&list, (size_t)(length + length % 2));
        if (list.failed || !BEGINS(name, "ISFT"))
            return 0;
    }
    return 1;
}

static int
is_name(Cursor name)
{
    for (size_t i = 0; i < name.left; i++)
        if (name.at[i] < ' ' || name.at[i] > '~')
            return 0;
    return 1;
}

int
read_wav(Reading *reading)
{
    File *file = &reading->file;
    Cursor whole = at(file, 4, 8);
    uint64_t size = little_endian(&whole, 4) + 8;
    /* One library goes by this, another to the end of the file. */
    if (!BEGINS(whole, "WAVE") || size + size % 2 < file->size || size > file->size)
        return -1;
    uint32_t bytes_a_second = 0;
    uint64_t sound = 0, position = 12;
    int has_tag = 0;
    while (position + 8 <= file->size) {
        Cursor header = at(file, position, 8), name = take(&header, 4);
        uint64_t begin = position + 8, length = little_endian(&header, 4), end;
        if (header.failed || !is_name(name) || length > file->size - begin)
            return -1;
        position = begin + length + length % 2;
        if (BEGINS(name, "fmt ")) {
            if (bytes_a_second != 0 || length > HEAD_BYTES ||
                read_form(reading, at(file, begin, length), &bytes_a_second) != 0)
                return -1;
        } else if (BEGINS(name, "data")) {
            if (sound != 0 || length == 0)
                return -1;
            sound = length;
        } else if (BEGINS(name, "LIST")) {
            if (length > MOST_BYTES || !says_nothing(at(file, begin, length)))
                return -1;
        } else if (BEGINS(name, "id3 ") || BEGINS(name, "ID3 ")) {
            if (has_tag || !BEGINS(at(file, begin, 3), "ID3") || read_id3v2(reading, begin, &end) != 0 ||
                end > begin + length)
                return -1;
            has_tag = 1;
        } else if (BEGINS(name, "Id3 ") || BEGINS(name, "iD3 ")) {
            return -1; /* the libraries differ */
        }
    }
    if (bytes_a_second == 0)
        return -1;
    reading->format = "wav";
    reading->seconds = (double)sound / bytes_a_second;
    reading->kbps = (double)bytes_a_second * 8 / 1000;
    return 0;
}
