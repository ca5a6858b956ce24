#include "soundstream.h"

void soundstream_start(soundstream *net, int books)
{
    net->books = books < 1 ? 1 : books > SOUNDSTREAM_CODEBOOKS ? SOUNDSTREAM_CODEBOOKS : books;
    net->ready = net->ending = net->ended = 0;
    net->phase = 0;
    for (int at = 0; at < SOUNDSTREAM_CODEBOOKS; at++)
        net->codes[at] = 0;
    for (int at = 0; at < SOUNDSTREAM_LAYERS; at++) {
        net->places[at].oldest = 0;
        net->places[at].wait = (uint16_t)(soundstream_layers[at].span - soundstream_layers[at].before);
    }
    for (int at = 0; at < SOUNDSTREAM_LATENT; at++)
        net->latent[at] = 0;
    for (size_t at = 0; at < SOUNDSTREAM_LINES; at++)
        net->lines[at] = 0;
}

/* Where the next row of a layer's input goes. */
static soundstream_value *input(soundstream *net, int at)
{
    const soundstream_layer *layer = &soundstream_layers[at];
    return net->lines + layer->line + (size_t)net->places[at].oldest * layer->row;
}

/* A row has come to a layer: it and those behind it compute as far as it brings them, maybe to a frame. */
static void run(soundstream *net, int at)
{
    for (; at < SOUNDSTREAM_LAYERS; at++) {
        const soundstream_layer *layer = &soundstream_layers[at];
        int oldest = net->places[at].oldest + 1;
        if (oldest == layer->span)
            oldest = 0;
        net->places[at].oldest = (uint16_t)oldest;
        if (--net->places[at].wait > 0)
            return;
        net->places[at].wait = layer->stride;
        const soundstream_value *skip = 0;
        if (layer->skip >= 0) {
            const soundstream_layer *from = &soundstream_layers[layer->skip];
            int row = net->places[layer->skip].oldest + from->before; /* of the same moment as the output */
            skip = net->lines + from->line + (size_t)(row < from->span ? row : row - from->span) * from->row;
        }
        soundstream_value *out = at + 1 < SOUNDSTREAM_LAYERS ? input(net, at + 1) : net->latent;
        soundstream_row(layer, net->lines + layer->line, oldest, skip, out);
    }
    soundstream_search(net);
    net->ready = 1;
}

static void hear(soundstream *net, soundstream_sample sample)
{
    *input(net, 0) = sample;
    net->phase = net->phase + 1 == SOUNDSTREAM_HOP ? 0 : net->phase + 1;
    run(net, 0);
}

size_t soundstream_hear(soundstream *net, const soundstream_sample *samples, size_t count)
{
    size_t taken = 0;
    net->ready = 0;
    while (taken < count && !net->ready)
        hear(net, samples[taken++]);
    return taken;
}

int soundstream_finish(soundstream *net)
{
    net->ready = 0;
    while (net->phase > 0 && !net->ready)
        hear(net, 0);
    while (net->ending < SOUNDSTREAM_LAYERS && !net->ready) {
        const soundstream_layer *layer = &soundstream_layers[net->ending];
        if (net->ended == layer->after) { /* all of its input is there: now what the next one waits for */
            net->ending++;
            net->ended = 0;
            continue;
        }
        soundstream_value *row = input(net, net->ending);
        for (int at = 0; at < layer->row; at++)
            row[at] = 0;
        net->ended++;
        run(net, net->ending);
    }
    return net->ready;
}
