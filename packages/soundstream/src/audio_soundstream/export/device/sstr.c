#include "sstr.h"

size_t sstr_begin(sstr *stream, uint8_t to[SSTR_MOST])
{
    stream->held = 0;
    stream->number = 0;
    stream->frames = 0;
    for (int at = 0; at < 48; at++)
        to[at] = soundstream_stream[at];
    return 48;
}

/* What begins at `to` gets its numbers in front and its checksum behind, `end` bytes from its start. */
static size_t sealed(sstr *stream, int frames, int layers, uint8_t *to, size_t end)
{
    uint16_t check = 0xFFFF;
    to[0] = (uint8_t)(stream->number & 255);
    to[1] = (uint8_t)(stream->number >> 8);
    to[2] = (uint8_t)frames;
    to[3] = (uint8_t)layers;
    for (size_t at = 0; at < end; at++) {
        check = (uint16_t)(check ^ to[at] << 8);
        for (int bit = 0; bit < 8; bit++)
            check = (uint16_t)(check & 0x8000 ? check << 1 ^ 0x1021 : check << 1);
    }
    to[end] = (uint8_t)(check & 255);
    to[end + 1] = (uint8_t)(check >> 8);
    stream->number++;
    return end + 2;
}

/* The frames that are held, layer after layer, bit after bit; zeros fill the last byte. */
static size_t packet(sstr *stream, uint8_t *to)
{
    size_t end = 4;
    uint32_t bits = 0;
    int frames = stream->held, count = 0; /* of bits that are not written yet */
    for (int layer = 0; layer < SOUNDSTREAM_CODEBOOKS; layer++)
        for (int frame = 0; frame < frames; frame++) {
            bits = bits << SOUNDSTREAM_BITS | stream->codes[frame][layer];
            for (count += SOUNDSTREAM_BITS; count >= 8; count -= 8)
                to[end++] = (uint8_t)(bits >> (count - 8) & 255);
        }
    if (count > 0)
        to[end++] = (uint8_t)(bits << (8 - count) & 255);
    stream->held = 0;
    return sealed(stream, frames, SOUNDSTREAM_CODEBOOKS, to, end);
}

size_t sstr_add(sstr *stream, const uint16_t codes[SOUNDSTREAM_CODEBOOKS], uint8_t to[SSTR_MOST])
{
    for (int layer = 0; layer < SOUNDSTREAM_CODEBOOKS; layer++)
        stream->codes[stream->held][layer] = codes[layer];
    stream->held++;
    stream->frames++;
    return stream->held == SOUNDSTREAM_PER_PACKET ? packet(stream, to) : 0;
}

size_t sstr_end(sstr *stream, uint64_t samples, uint8_t to[SSTR_MOST])
{
    size_t written = stream->held > 0 ? packet(stream, to) : 0;
    uint8_t *end = to + written;
    for (int at = 0; at < 4; at++)
        end[4 + at] = (uint8_t)(stream->frames >> 8 * at & 255);
    for (int at = 0; at < 8; at++)
        end[8 + at] = (uint8_t)(samples >> 8 * at & 255);
    return written + sealed(stream, 0, 0, end, 16);
}
