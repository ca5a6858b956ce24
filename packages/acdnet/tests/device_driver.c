/* Reads crops of ACDNET_SAMPLES 16-bit samples, in pieces of changing sizes, and writes the logits of each. Before that
 * it writes sizeof(acdnet). With an argument, the audio is one recording: windows follow each other by that many columns.
 */
#include <stdio.h>
#include <stdlib.h>

#include "acdnet.h"

static acdnet net;

int main(int count, char **arguments)
{
    int16_t samples[1000], logits[ACDNET_CLASSES];
    int slide = count > 1 ? atoi(arguments[1]) : ACDNET_COLUMNS;
    size_t piece = 1, got;
    int32_t size = (int32_t)sizeof net;
    fwrite(&size, sizeof size, 1, stdout);
    acdnet_reset(&net);
    acdnet_slide(&net, 1000000); /* more than there are, */
    acdnet_slide(&net, -5000);   /* and fewer than none */
    while ((got = fread(samples, sizeof samples[0], piece, stdin)) > 0) {
        piece = (piece * 7 + 1) % 1000 + 1;
        for (size_t at = 0; at < got;) {
            at += acdnet_hear(&net, samples + at, got - at);
            if (acdnet_ready(&net)) {
                acdnet_classify(&net, logits);
                fwrite(logits, sizeof logits[0], ACDNET_CLASSES, stdout);
                acdnet_slide(&net, -1);
                acdnet_slide(&net, 0);
                if (count > 1)
                    acdnet_slide(&net, slide);
                else
                    acdnet_reset(&net);
            }
        }
    }
    return 0;
}
