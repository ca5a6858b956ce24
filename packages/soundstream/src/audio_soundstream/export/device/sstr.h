/* Codes as an .sstr stream, which `audio-soundstream decode` plays: a header, packets of some frames, an end. */
#ifndef SSTR_H
#define SSTR_H

#include "soundstream.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes that any call below writes, at most. */
#define SSTR_MOST (48 + 6 + (SOUNDSTREAM_CODEBOOKS * SOUNDSTREAM_BITS * SOUNDSTREAM_PER_PACKET + 7) / 8)

typedef struct {
    uint16_t codes[SOUNDSTREAM_PER_PACKET][SOUNDSTREAM_CODEBOOKS]; /* of a packet that is not full yet, */
    int held;                                                      /* so many frames */
    uint16_t number;                                               /* of the next packet */
    uint32_t frames;
} sstr;

/* Each writes to `to` and returns how many bytes: the header, ... */
size_t sstr_begin(sstr *stream, uint8_t to[SSTR_MOST]);

/* ... a packet, when a frame makes it full, else nothing, ... */
size_t sstr_add(sstr *stream, const uint16_t codes[SOUNDSTREAM_CODEBOOKS], uint8_t to[SSTR_MOST]);

/* ... and the last packet and the end, when so many samples have been encoded. */
size_t sstr_end(sstr *stream, uint64_t samples, uint8_t to[SSTR_MOST]);

#ifdef __cplusplus
}
#endif

#endif
