/* A neural audio codec's encoder and residual quantizer: C99, no heap, no library but expm1f where a model needs it.
 *
 * One struct is all the memory there is. Feed it audio as it is recorded, any number of samples at a time; after every
 * SOUNDSTREAM_HOP of them (and SOUNDSTREAM_LOOKAHEAD more) a frame of codes is done. At the end of the sound, `finish`
 * brings the frames that were still waited for. The codes are those of the whole sound computed at once.
 *
 *     soundstream_start(&net, SOUNDSTREAM_CODEBOOKS);
 *     for (size_t at = 0; at < count;) {
 *         at += soundstream_hear(&net, samples + at, count - at);
 *         if (net.ready)
 *             send(net.codes);
 *     }
 *     while (soundstream_finish(&net))
 *         send(net.codes);
 */
#ifndef SOUNDSTREAM_H
#define SOUNDSTREAM_H

#include <stddef.h>
#include <stdint.h>

#include "soundstream_model.h"

#ifdef __cplusplus
extern "C" {
#endif

#if SOUNDSTREAM_INTEGER
typedef int16_t soundstream_sample; /* as it is recorded */
typedef int16_t soundstream_value;
typedef int8_t soundstream_weight;
typedef int32_t soundstream_sum;
#else
typedef float soundstream_sample; /* from -1 to 1 */
typedef float soundstream_value;
typedef float soundstream_weight;
typedef float soundstream_sum;
#endif

enum { SOUNDSTREAM_NONE, SOUNDSTREAM_RELU, SOUNDSTREAM_ELU, SOUNDSTREAM_HARDSWISH };

/* A convolution over time, its activation, and the sum with the input of an earlier layer. Values of one moment stand
 * side by side in a row; SOUNDSTREAM_LANES outputs are computed together, and counts of outputs are multiples of it. */
typedef struct {
    const soundstream_weight *weight; /* (outputs / lanes, kernel, inputs, lanes); inputs is 1 if depthwise */
    const soundstream_sum *bias;      /* (outputs,) */
#if SOUNDSTREAM_INTEGER
    const int8_t *shift;              /* (outputs,): a sum / 2^shift is an output; the half for rounding is in bias */
    const int16_t *curve;             /* the activation at SOUNDSTREAM_CURVE places, between which it is straight */
    int16_t limit;                    /* outputs are from -limit to limit */
    int8_t skip_shift;                /* what is added is divided by 2^skip_shift */
#endif
    size_t line;                      /* where its input lies in `lines`: `span` rows, the oldest is overwritten */
    uint16_t inputs, outputs, row;    /* a row of the input has `row` values, of which `inputs` count */
    uint16_t kernel, dilation, span, stride;
    uint16_t before, after;           /* rows of zeros around the sound */
    uint8_t depthwise, activation;    /* depthwise: every output has one input */
    int16_t skip;                     /* the layer whose input is added, or -1 */
} soundstream_layer;

/* One layer of the quantizer: its entries, and half the square of each one's length. */
typedef struct {
    const soundstream_weight *entries; /* (size / lanes, width, lanes); of integers (size, latent) */
    const soundstream_sum *halves;
#if SOUNDSTREAM_INTEGER
    const int8_t *shift; /* (size,): an entry times 2^shift is in the units of a latent */
    int8_t coarsest;     /* the largest shift: distances are in the units of those entries */
#endif
} soundstream_book;

extern const soundstream_layer soundstream_layers[SOUNDSTREAM_LAYERS];
extern const soundstream_book soundstream_books[SOUNDSTREAM_CODEBOOKS];
extern const uint8_t soundstream_stream[48]; /* the header of an .sstr stream */

typedef struct {
    uint16_t codes[SOUNDSTREAM_CODEBOOKS];        /* of the frame that is done, */
    int ready;                                    /* if one is */
    int books;                                    /* how many layers of the quantizer are searched */
    uint32_t phase;                               /* samples of the frame that has begun */
    int ending, ended;                            /* the layer whose last zeros are due, and how many it got */
    struct {
        uint16_t oldest, wait;                    /* its oldest row; rows it waits for */
    } places[SOUNDSTREAM_LAYERS];
    soundstream_value latent[SOUNDSTREAM_LATENT]; /* of a frame, then what the codes so far leave of it */
    soundstream_value lines[SOUNDSTREAM_LINES];   /* the rows that layers still need */
} soundstream;

/* Begins a sound; codes come from the first `books` layers of the quantizer, the others are 0. With fewer than all of
 * them, send the first `books` codes of each frame with another header: sstr.c writes streams of all layers. */
void soundstream_start(soundstream *net, int books);

/* Takes up to `count` samples, fewer if a frame is done before, as net->ready then says; returns how many. */
size_t soundstream_hear(soundstream *net, const soundstream_sample *samples, size_t count);

/* At the end of the sound, which silence completes to a whole frame: whether there was another frame. */
int soundstream_finish(soundstream *net);

/* --- inside: soundstream_float.c or soundstream_integer.c ----------------------------------------------------- */

/* One row of outputs from the rows in `line`, the oldest of which is at `oldest`; `skip` is added where it is one. */
void soundstream_row(const soundstream_layer *layer, const soundstream_value *line, int oldest,
                     const soundstream_value *skip, soundstream_value *out);

/* The codes of net->latent, of which it leaves the rest. */
void soundstream_search(soundstream *net);

#ifdef __cplusplus
}
#endif

#endif
