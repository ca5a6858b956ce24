/* Encodes 16-bit mono audio at SOUNDSTREAM_RATE from standard input to an .sstr stream on standard output:
 *
 *     cc -std=c99 -O2 main.c sstr.c soundstream*.c -lm -o encode
 *     ffmpeg -i speech.wav -f s16le -ac 1 -ar SOUNDSTREAM_RATE - | ./encode > speech.sstr    (see soundstream_model.h)
 *     audio-soundstream decode speech.sstr -o speech.wav
 *
 * On a device, a driver that fills a buffer from a microphone takes the place of fread.
 */
#include <stdio.h>

#include "sstr.h"

static soundstream net; /* static: it is too large for the stack of most devices */
static sstr stream;

int main(void)
{
    int16_t recorded[256];
    soundstream_sample samples[256];
    uint8_t bytes[SSTR_MOST];
    uint64_t length = 0;
    size_t count;
    soundstream_start(&net, SOUNDSTREAM_CODEBOOKS);
    fwrite(bytes, 1, sstr_begin(&stream, bytes), stdout);
    while ((count = fread(recorded, sizeof recorded[0], 256, stdin)) > 0) {
        length += count;
        for (size_t at = 0; at < count; at++)
            samples[at] = SOUNDSTREAM_INTEGER ? (soundstream_sample)recorded[at] : (soundstream_sample)recorded[at] / 32768;
        for (size_t at = 0; at < count;) {
            at += soundstream_hear(&net, samples + at, count - at);
            if (net.ready)
                fwrite(bytes, 1, sstr_add(&stream, net.codes, bytes), stdout);
        }
    }
    while (soundstream_finish(&net))
        fwrite(bytes, 1, sstr_add(&stream, net.codes, bytes), stdout);
    fwrite(bytes, 1, sstr_end(&stream, length, bytes), stdout);
    return 0;
}
