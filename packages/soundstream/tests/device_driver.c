/* Reads 32-bit floats if the model takes such, else 16-bit samples, in pieces of changing sizes or of the one given,
 * and writes the codes of each frame; before that sizeof(soundstream). A second argument limits the codes of a frame.
 */
#include <stdio.h>
#include <stdlib.h>

#include "soundstream.h"

static soundstream net;

static void tell(void)
{
    fwrite(net.codes, sizeof net.codes[0], SOUNDSTREAM_CODEBOOKS, stdout);
}

int main(int count, char **arguments)
{
    static soundstream_sample samples[100000];
    size_t given = count > 1 ? (size_t)atoi(arguments[1]) : 0, piece = given ? given : 1, got;
    int32_t size = (int32_t)sizeof net;
    fwrite(&size, sizeof size, 1, stdout);
    soundstream_start(&net, count > 2 ? atoi(arguments[2]) : 1000);
    while ((got = fread(samples, sizeof samples[0], piece, stdin)) > 0) {
        piece = given ? given : (piece * 7 + 1) % 1000 + 1;
        for (size_t at = 0; at < got;) {
            at += soundstream_hear(&net, samples + at, got - at);
            if (net.ready)
                tell();
        }
    }
    while (soundstream_finish(&net))
        tell();
    return soundstream_finish(&net); /* nothing comes behind the end */
}
