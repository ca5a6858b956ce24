/* Layers and search in integers: 8-bit weights, 16-bit activations, 32-bit accumulators that cannot overflow.
 * Inner loops run over SOUNDSTREAM_LANES outputs, which compilers turn into vectors, and take four inputs at a time. */
#include "soundstream.h"

#define LANES SOUNDSTREAM_LANES

/* Shifts of negative numbers must round down, which C leaves to the compiler; all that are in use do. */
typedef char shifts_round_down[(-3 >> 1) == -2 ? 1 : -1];

static void multiply(int32_t *restrict sums, const int16_t *restrict in, int inputs, const int8_t *restrict w)
{
    for (; inputs >= 4; inputs -= 4, in += 4, w += 4 * LANES) {
        int16_t a = in[0], b = in[1], c = in[2], d = in[3];
        for (int j = 0; j < LANES; j++)
            sums[j] += a * (int16_t)w[j] + b * (int16_t)w[LANES + j] + c * (int16_t)w[2 * LANES + j] +
                       d * (int16_t)w[3 * LANES + j];
    }
    for (; inputs > 0; inputs--, in++, w += LANES)
        for (int j = 0; j < LANES; j++)
            sums[j] += in[0] * (int16_t)w[j];
}

static int32_t limited(int32_t value, int32_t low, int32_t high)
{
    return value < low ? low : value > high ? high : value;
}

/* value / 2^shift, rounded half up. */
static int32_t shifted(int32_t value, int shift)
{
    return (value + ((int32_t)1 << shift >> 1)) >> shift;
}

/* A curve of 256 straight pieces. */
static int32_t curved(const int16_t *curve, int32_t value)
{
    int32_t place = (value + 32768) >> 8, rest = (value + 32768) & 255;
    return curve[place] + (((curve[place + 1] - curve[place]) * rest + 128) >> 8);
}

/* Sums to a row of outputs: rescaled, through the activation, plus the skip. */
static void store(const soundstream_layer *layer, const int32_t *restrict sums, int block,
                  const int16_t *restrict skip, int16_t *restrict out)
{
    const int8_t *shift = layer->shift + block;
    const int32_t limit = layer->limit;
    int32_t values[LANES];
    for (int j = 0; j < LANES; j++)
        values[j] = sums[j] >> shift[j];
    if (layer->curve)
        for (int j = 0; j < LANES; j++)
            values[j] = curved(layer->curve, limited(values[j], -32768, 32767));
    else if (layer->activation == SOUNDSTREAM_RELU)
        for (int j = 0; j < LANES; j++)
            values[j] = values[j] > 0 ? values[j] : 0;
    if (skip)
        for (int j = 0; j < LANES; j++)
            values[j] += shifted(skip[block + j], layer->skip_shift);
    for (int j = 0; j < LANES; j++)
        out[block + j] = (int16_t)limited(values[j], -limit, limit);
}

void soundstream_row(const soundstream_layer *layer, const int16_t *line, int oldest, const int16_t *skip, int16_t *out)
{
    const int8_t *w = layer->weight;
    const int kernel = layer->kernel, inputs = layer->inputs, span = layer->span;
    for (int block = 0; block < layer->outputs; block += LANES) {
        int32_t sums[LANES];
        for (int j = 0; j < LANES; j++)
            sums[j] = layer->bias[block + j];
        for (int tap = 0, row = oldest; tap < kernel; tap++) {
            const int16_t *in = line + row * layer->row;
            if (layer->depthwise) {
                for (int j = 0; j < LANES; j++)
                    sums[j] += in[block + j] * (int16_t)w[j];
                w += LANES;
            } else {
                multiply(sums, in, inputs, w);
                w += inputs * LANES;
            }
            row += layer->dilation;
            row = row < span ? row : row - span;
        }
        store(layer, sums, block, skip, out);
    }
}

/* Of latent and entry, in pieces of 16, which compilers turn into vectors. */
static int32_t product(const int16_t *restrict latent, const int8_t *restrict entry)
{
    int32_t sum = 0;
    for (int at = 0; at < SOUNDSTREAM_LATENT; at += 16)
        for (int j = 0; j < 16; j++)
            sum += latent[at + j] * (int16_t)entry[at + j];
    return sum;
}

/* |r - c|^2 = |r|^2 + 2 (|c|^2 / 2 - r c), and |r|^2 is the same for all entries. Of equally near ones, the first. */
static int nearest(const soundstream_book *book, const int16_t *residual)
{
    int32_t least = INT32_MAX;
    int best = 0;
    for (int at = 0; at < SOUNDSTREAM_SIZE; at++) {
        int32_t found = product(residual, book->entries + (size_t)at * SOUNDSTREAM_LATENT);
        int32_t distance = book->halves[at] - shifted(found, book->coarsest - book->shift[at]);
        if (distance < least) {
            least = distance;
            best = at;
        }
    }
    return best;
}

void soundstream_search(soundstream *net)
{
    const int32_t limit = soundstream_layers[SOUNDSTREAM_LAYERS - 1].limit;
    for (int at = 0; at < net->books; at++) {
        const soundstream_book *book = &soundstream_books[at];
        int best = nearest(book, net->latent);
        const int8_t *entry = book->entries + (size_t)best * SOUNDSTREAM_LATENT;
        for (int d = 0; d < SOUNDSTREAM_WIDTH; d++) {
            int32_t rest = net->latent[d] - entry[d] * ((int32_t)1 << book->shift[best]);
            net->latent[d] = (int16_t)limited(rest, -limit, limit);
        }
        net->codes[at] = (uint16_t)best;
    }
}
