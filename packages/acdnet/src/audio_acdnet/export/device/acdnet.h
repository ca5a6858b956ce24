/* Sound classification in integers: C99, no heap, no floating point.
 *
 * One struct is all the memory there is. Feed it audio as it is recorded, any number of samples at a time; after
 * ACDNET_SAMPLES of them a window is full and can be classified. The audio itself is never kept: the first two layers
 * turn it into a column of ACDNET_ROWS values every ACDNET_STEP samples. Sliding the window on keeps the columns that
 * both windows share, so nothing is computed twice.
 */
#ifndef ACDNET_H
#define ACDNET_H

#include <stddef.h>
#include <stdint.h>

#include "acdnet_model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef ACDNET_VALUE acdnet_value;

typedef struct {
    const int8_t *weight;                        /* (outputs, inputs, kernel, kernel); in a line for the first two */
    const int32_t *bias, *multiplier;            /* of every output; a sum times multiplier / 2^shift is an output */
    const int8_t *shift;
    int inputs, outputs, height, width;          /* of the maps that come in */
    int kernel, stride, padding, pool_height, pool_width;
    int input_zero, output_zero;                 /* the integers that stand for 0 */
} acdnet_layer;

extern const acdnet_layer acdnet_layers[ACDNET_LAYERS];
extern const char *const acdnet_labels[ACDNET_CLASSES];

typedef struct {
    int16_t audio[ACDNET_KERNEL1];                           /* the last samples, ... */
    acdnet_value filtered[ACDNET_FILTERS * ACDNET_KERNEL2];  /* ... what conv1 makes of them, ... */
    int32_t maxima[ACDNET_ROWS];                             /* ... and conv2, so far in this column */
    int held, held_filtered, pooled;                         /* how many of each there are */
    int full;                                                /* columns that are done */
    acdnet_value columns[ACDNET_ROWS * ACDNET_COLUMNS];      /* (rows, columns): the picture that the others look at */
    acdnet_value even[ACDNET_EVEN], odd[ACDNET_ODD];         /* maps of the other layers, in turn */
    int32_t sums[ACDNET_SUMS];                               /* the lines of a map that one pooled line is made of */
} acdnet;

/* Forgets everything it has heard. */
void acdnet_reset(acdnet *net);

/* Takes up to `count` samples, fewer when the window is full before; returns how many. */
size_t acdnet_hear(acdnet *net, const int16_t *samples, size_t count);

/* Whether the window is full. */
int acdnet_ready(const acdnet *net);

/* The logits of a full window: a class's logit is ACDNET_LOGIT_SCALE times its integer. */
void acdnet_classify(acdnet *net, int16_t logits[ACDNET_CLASSES]);

/* Forgets the oldest `columns`, each ACDNET_STEP samples long, to make room for new ones. */
void acdnet_slide(acdnet *net, int columns);

#ifdef __cplusplus
}
#endif

#endif
