/* MP3: MPEG audio frames (ISO/IEC 11172-3, 13818-3), measured by the header that LAME and others put into the first
 * one (Xing), or by their number where all are of one size.
 */

#include "plain_tags.h"

#define CONSTANT_FRAMES 5
#define FOLLOWING_FRAMES 6

typedef struct {
    unsigned kind; /* version and layer, as they stand there: the same in all frames of a stream */
    uint32_t length, samples, kbps, sample_rate, channels;
} Frame;

/* The frame whose header the bytes begin with. */
static int
read_frame(Cursor bytes, Frame *frame)
{
    static const uint16_t rates[4][3] = {{11025, 12000, 8000}, {0}, {22050, 24000, 16000}, {44100, 48000, 32000}};
    static const uint16_t kbps[5][15] = {
        {0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448}, /* version 1, layers 1 to 3 */
        {0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384},
        {0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320},
        {0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256}, /* versions 2 and 2.5, layer 1 */
        {0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160},
    };
    unsigned header = (unsigned)big_endian(&bytes, 4);
    unsigned version = header >> 19 & 3, layer = 4 - (header >> 17 & 3), rate = header >> 10 & 3;
    unsigned kbps_at = header >> 12 & 15, padding = header >> 9 & 1;
    if (bytes.failed || header >> 21 != 0x7FF || version == 1 || layer == 4 || rate == 3 || kbps_at == 0 ||
        kbps_at == 15)
        return -1;
    frame->kind = header >> 17 & 15;
    frame->kbps = kbps[version == 3 ? layer - 1 : layer == 1 ? 3 : 4][kbps_at];
    frame->sample_rate = rates[version][rate];
    frame->samples = layer == 1 ? 384 : layer == 2 || version == 3 ? 1152 : 576;
    frame->length = layer == 1 ? (12000 * frame->kbps / frame->sample_rate + padding) * 4
                               : frame->samples * 125 * frame->kbps / frame->sample_rate + padding;
    frame->channels = (header >> 6 & 3) == 3 ? 1 : 2;
    return 0;
}

/* Whether frames follow each other: a library would search all of a file for the next one. */
static int
frames_follow(Cursor head, uint64_t available)
{
    uint64_t position = 0;
    for (int frames = 0; head.left >= 4 && frames < FOLLOWING_FRAMES; frames++) {
        Frame frame;
        if (read_frame(head, &frame) != 0)
            return frames > 0 && position + 512 >= available;
        position += frame.length;
        take(&head, frame.length); /* nothing is left where it reaches further */
    }
    return 1;
}

static int
find(Cursor body, const char *name, Cursor *behind)
{
    for (; body.left >= 4; take(&body, 1)) {
        if (begins(body, name, 4)) {
            *behind = body;
            take(behind, 4);
            return 1;
        }
    }
    return 0;
}

static int
measure_by_xing(Reading *reading, const Frame *first, Cursor header)
{
    int32_t flags = (int32_t)big_endian(&header, 4), frames = (int32_t)big_endian(&header, 4);
    int64_t size = (int64_t)(int32_t)big_endian(&header, 4) - first->length;
    if (header.failed || (flags & 3) != 3 || frames <= 0 || size <= 0)
        return -1;
    reading->seconds = (double)((int64_t)frames * first->samples) / first->sample_rate;
    reading->kbps = (double)(size * 8) / reading->seconds / 1000;
    return 0;
}

static int
measure_by_constant_rate(Reading *reading, const Frame *first, uint64_t start, uint64_t end)
{
    uint64_t position = start;
    for (int i = 0; i < CONSTANT_FRAMES; i++) {
        Frame frame;
        if (read_frame(at(&reading->file, position, 4), &frame) != 0 || frame.kind != first->kind ||
            frame.kbps != first->kbps)
            return -1;
        position += frame.length;
    }
    if (end <= start)
        return -1;
    double frames = (double)(end - start) / ((double)(position - start) / CONSTANT_FRAMES) + 0.5;
    reading->seconds = (double)((uint64_t)frames * first->samples) / first->sample_rate;
    reading->kbps = first->kbps;
    return 0;
}

int
read_mp3(Reading *reading)
{
    File *file = &reading->file;
    uint64_t start = 0, end = file->size;
    if (BEGINS(at(file, 0, 3), "ID3") && read_id3v2(reading, 0, &start) != 0)
        return -1;
    Cursor head = at(file, start, HEAD_BYTES), body = at(file, start + 4, 50), header;
    Frame first;
    if (start >= end || read_frame(head, &first) != 0 || !frames_follow(head, end - start))
        return -1;
    if (look_at_end(reading, &end) != 0)
        return -1;
    reading->format = "mp3";
    reading->sample_rate = first.sample_rate;
    reading->channels = first.channels;
    if (find(body, "Xing", &header) || find(body, "Info", &header))
        return measure_by_xing(reading, &first, header);
    /* Fraunhofer's header is for a library. */
    return find(body, "VBRI", &header) ? -1 : measure_by_constant_rate(reading, &first, start, end);
}
