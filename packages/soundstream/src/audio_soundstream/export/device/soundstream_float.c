/* Layers and search in floating point. Inner loops run over SOUNDSTREAM_LANES outputs, which compilers turn into
 * vectors, and take four inputs at a time, so that sums are loaded and stored once for four products. */
#include "soundstream.h"

#include <math.h>

#define LANES SOUNDSTREAM_LANES

static void multiply(float *restrict sums, const float *restrict in, int inputs, const float *restrict w)
{
    for (; inputs >= 4; inputs -= 4, in += 4, w += 4 * LANES) {
        float a = in[0], b = in[1], c = in[2], d = in[3];
        for (int j = 0; j < LANES; j++)
            sums[j] += a * w[j] + b * w[LANES + j] + c * w[2 * LANES + j] + d * w[3 * LANES + j];
    }
    for (; inputs > 0; inputs--, in++, w += LANES)
        for (int j = 0; j < LANES; j++)
            sums[j] += in[0] * w[j];
}

/* Activation and skip, into a row of outputs. */
static void store(const soundstream_layer *layer, const float *restrict sums, const float *restrict skip,
                  float *restrict out)
{
    float values[LANES];
    for (int j = 0; j < LANES; j++)
        values[j] = sums[j];
    if (layer->activation == SOUNDSTREAM_RELU)
        for (int j = 0; j < LANES; j++)
            values[j] = values[j] > 0 ? values[j] : 0;
    else if (layer->activation == SOUNDSTREAM_ELU)
        for (int j = 0; j < LANES; j++)
            values[j] = values[j] > 0 ? values[j] : expm1f(values[j]);
    else if (layer->activation == SOUNDSTREAM_HARDSWISH)
        for (int j = 0; j < LANES; j++) {
            float gate = values[j] + 3;
            values[j] *= (gate < 0 ? 0 : gate > 6 ? 6 : gate) / 6;
        }
    if (skip)
        for (int j = 0; j < LANES; j++)
            values[j] += skip[j];
    for (int j = 0; j < LANES; j++)
        out[j] = values[j];
}

void soundstream_row(const soundstream_layer *layer, const float *line, int oldest, const float *skip, float *out)
{
    const float *w = layer->weight;
    const int kernel = layer->kernel, inputs = layer->inputs, span = layer->span;
    for (int block = 0; block < layer->outputs; block += LANES) {
        float sums[LANES];
        for (int j = 0; j < LANES; j++)
            sums[j] = layer->bias[block + j];
        for (int tap = 0, row = oldest; tap < kernel; tap++) {
            const float *in = line + row * layer->row;
            if (layer->depthwise) {
                for (int j = 0; j < LANES; j++)
                    sums[j] += in[block + j] * w[j];
                w += LANES;
            } else {
                multiply(sums, in, inputs, w);
                w += inputs * LANES;
            }
            row += layer->dilation;
            row = row < span ? row : row - span;
        }
        store(layer, sums, skip ? skip + block : 0, out + block);
    }
}

/* |r - c|^2 = |r|^2 + 2 (|c|^2 / 2 - r c), and |r|^2 is the same for all entries. Of equally near ones, the first. */
static int nearest(const soundstream_book *book, const float *residual)
{
    const float *w = book->entries;
    float least = INFINITY;
    int best = 0;
    for (int block = 0; block < SOUNDSTREAM_SIZE; block += LANES, w += SOUNDSTREAM_WIDTH * LANES) {
        float products[LANES] = {0};
        multiply(products, residual, SOUNDSTREAM_WIDTH, w);
        for (int j = 0; j < LANES && block + j < SOUNDSTREAM_SIZE; j++) {
            float distance = book->halves[block + j] - products[j];
            if (distance < least) {
                least = distance;
                best = block + j;
            }
        }
    }
    return best;
}

void soundstream_search(soundstream *net)
{
    for (int at = 0; at < net->books; at++) {
        const soundstream_book *book = &soundstream_books[at];
        int best = nearest(book, net->latent);
        const float *entry = book->entries + (size_t)(best / LANES) * SOUNDSTREAM_WIDTH * LANES + best % LANES;
        for (int d = 0; d < SOUNDSTREAM_WIDTH; d++)
            net->latent[d] -= entry[d * LANES];
        net->codes[at] = (uint16_t)best;
    }
}
