#include "acdnet.h"

#include <string.h>

/* sum * multiplier / 2^shift, rounded half up, as an integer of the layer's output. */
static int32_t rescaled(const acdnet_layer *layer, int channel, int32_t sum, int32_t low, int32_t high)
{
    int shift = layer->shift[channel];
    int64_t product = (int64_t)sum * layer->multiplier[channel] + ((int64_t)1 << (shift - 1));
    /* Rounds down also where a shift of negative numbers does otherwise. */
    int64_t result = (product >= 0 ? product >> shift : ~(~product >> shift)) + layer->output_zero;
    return (int32_t)(result < low ? low : result > high ? high : result);
}

static acdnet_value value(const acdnet_layer *layer, int channel, int32_t sum)
{
    return (acdnet_value)rescaled(layer, channel, sum, ACDNET_LOW, ACDNET_HIGH);
}

/* --- the first block: audio to columns ------------------------------------------------------------------------- */

void acdnet_reset(acdnet *net)
{
    net->held = net->held_filtered = net->pooled = net->full = 0;
}

/* One value of every filter of conv1, behind those that conv2 still needs. */
static void filter(acdnet *net)
{
    const acdnet_layer *layer = &acdnet_layers[0];
    const int8_t *weight = layer->weight;
    for (int channel = 0; channel < ACDNET_FILTERS; channel++) {
        int32_t sum = layer->bias[channel];
        for (int k = 0; k < ACDNET_KERNEL1; k++)
            sum += (int32_t)*weight++ * ((int32_t)net->audio[k] - layer->input_zero);
        net->filtered[channel * ACDNET_KERNEL2 + net->held_filtered] = value(layer, channel, sum);
    }
    net->held_filtered++;
    net->held -= layer->stride;
    memmove(net->audio, net->audio + layer->stride, (size_t)net->held * sizeof net->audio[0]);
}

/* One output of conv2, of which only the largest of every ACDNET_POOL is wanted. */
static void pool(acdnet *net)
{
    const acdnet_layer *layer = &acdnet_layers[1];
    const int8_t *weight = layer->weight;
    for (int channel = 0; channel < ACDNET_ROWS; channel++) {
        int32_t sum = layer->bias[channel];
        for (int k = 0; k < ACDNET_FILTERS * ACDNET_KERNEL2; k++)
            sum += (int32_t)*weight++ * (net->filtered[k] - layer->input_zero);
        if (net->pooled == 0 || sum > net->maxima[channel])
            net->maxima[channel] = sum;
    }
    net->pooled++;
    net->held_filtered -= layer->stride;
    for (int channel = 0; channel < ACDNET_FILTERS; channel++) {
        acdnet_value *values = net->filtered + channel * ACDNET_KERNEL2;
        memmove(values, values + layer->stride, (size_t)net->held_filtered * sizeof values[0]);
    }
}

size_t acdnet_hear(acdnet *net, const int16_t *samples, size_t count)
{
    size_t taken = 0;
    while (taken < count && !acdnet_ready(net)) {
        net->audio[net->held++] = samples[taken++];
        if (net->held == ACDNET_KERNEL1)
            filter(net);
        if (net->held_filtered == ACDNET_KERNEL2)
            pool(net);
        if (net->pooled == ACDNET_POOL) {
            for (int channel = 0; channel < ACDNET_ROWS; channel++)
                net->columns[channel * ACDNET_COLUMNS + net->full] =
                    value(&acdnet_layers[1], channel, net->maxima[channel]);
            net->pooled = 0;
            net->full++;
        }
    }
    return taken;
}

int acdnet_ready(const acdnet *net)
{
    return net->full == ACDNET_COLUMNS;
}

void acdnet_slide(acdnet *net, int columns)
{
    if (columns < 0)
        columns = 0;
    if (columns > net->full)
        columns = net->full;
    net->full -= columns;
    for (int channel = 0; channel < ACDNET_ROWS; channel++) {
        acdnet_value *row = net->columns + channel * ACDNET_COLUMNS;
        memmove(row, row + columns, (size_t)net->full * sizeof row[0]);
    }
}

/* --- the second block: columns to classes ----------------------------------------------------------------------- */

/* One line of a convolution's sums for one output channel, the kernel cut off where it leaves the picture. */
static void sum_line(const acdnet_layer *layer, int channel, const acdnet_value *in, int y, int32_t *sums)
{
    const int8_t *weight = layer->weight + channel * layer->inputs * layer->kernel * layer->kernel;
    for (int x = 0; x < layer->width; x++)
        sums[x] = layer->bias[channel];
    for (int input = 0; input < layer->inputs; input++, in += layer->height * layer->width)
        for (int ky = 0; ky < layer->kernel; ky++)
            for (int kx = 0; kx < layer->kernel; kx++) {
                int32_t w = *weight++;
                int row = y + ky - layer->padding, shift = kx - layer->padding; /* of the kernel's tap */
                if (row < 0 || row >= layer->height)
                    continue;
                const acdnet_value *line = in + row * layer->width;
                int first = shift < 0 ? -shift : 0, last = shift > 0 ? layer->width - shift : layer->width;
                for (int x = first; x < last; x++)
                    sums[x] += w * (line[x + shift] - layer->input_zero);
            }
}

/* (inputs, height, width) to (outputs, height / pool_height, width / pool_width). */
static void look(const acdnet_layer *layer, const acdnet_value *in, acdnet_value *out, int32_t *sums)
{
    for (int channel = 0; channel < layer->outputs; channel++)
        for (int y = 0; y + layer->pool_height <= layer->height; y += layer->pool_height) {
            for (int line = 0; line < layer->pool_height; line++)
                sum_line(layer, channel, in, y + line, sums + line * layer->width);
            for (int x = 0; x + layer->pool_width <= layer->width; x += layer->pool_width) {
                int32_t largest = sums[x];
                for (int line = 0; line < layer->pool_height; line++)
                    for (int column = 0; column < layer->pool_width; column++) {
                        int32_t sum = sums[line * layer->width + x + column];
                        if (sum > largest)
                            largest = sum;
                    }
                *out++ = value(layer, channel, largest);
            }
        }
}

/* The output layer takes the sum over a window of each map in place of its average. */
static void decide(const acdnet_layer *layer, const acdnet_value *in, int32_t *sums, int16_t *logits)
{
    for (int label = 0; label < layer->outputs; label++)
        sums[label] = layer->bias[label];
    for (int input = 0; input < layer->inputs; input++, in += layer->height * layer->width) {
        int32_t total = -layer->input_zero;
        for (int y = 0; y < layer->pool_height; y++)
            for (int x = 0; x < layer->pool_width; x++)
                total += in[y * layer->width + x];
        for (int label = 0; label < layer->outputs; label++)
            sums[label] += layer->weight[label * layer->inputs + input] * total;
    }
    for (int label = 0; label < layer->outputs; label++)
        logits[label] = (int16_t)rescaled(layer, label, sums[label], INT16_MIN, INT16_MAX);
}

void acdnet_classify(acdnet *net, int16_t logits[ACDNET_CLASSES])
{
    const acdnet_value *in = net->columns;
    int at = 2;
    for (; at < ACDNET_LAYERS - 1; at++) {
        acdnet_value *out = at % 2 ? net->odd : net->even;
        look(&acdnet_layers[at], in, out, net->sums);
        in = out;
    }
    decide(&acdnet_layers[at], in, net->sums, logits);
}
