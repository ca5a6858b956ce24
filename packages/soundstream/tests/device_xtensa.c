/* The encoder on a bare Xtensa of QEMU's simulator: samples from a header, codes to standard output. No library. */
#include "samples.h"
#include "soundstream.h"

__asm__(".section .start, \"ax\"\n"
        ".global _start\n"
        "_start:\n"
        "    j 1f\n"
        "    .literal_position\n"
        "1:  movi sp, stack_top\n"
        "    call0 begin\n"
        ".text\n");

static soundstream net;

/* The simulator's system calls: 4 writes, 1 ends. */
static int call(int number, int first, const void *second, int third)
{
    register int a2 __asm__("a2") = number;
    register int a3 __asm__("a3") = first;
    register const void *a4 __asm__("a4") = second;
    register int a5 __asm__("a5") = third;
    __asm__ volatile("simcall" : "+r"(a2), "+r"(a3) : "r"(a4), "r"(a5) : "memory");
    return a2;
}

static void tell(void)
{
    call(4, 1, net.codes, sizeof net.codes);
}

/* What compilers call to fill and to copy. */
void *memset(void *to, int value, size_t count)
{
    for (volatile unsigned char *at = to; count > 0; count--)
        *at++ = (unsigned char)value;
    return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t count)
{
    const unsigned char *source = from;
    for (volatile unsigned char *at = to; count > 0; count--)
        *at++ = *source++;
    return to;
}

void begin(void)
{
    size_t count = sizeof samples / sizeof samples[0], piece = 1;
    soundstream_start(&net, SOUNDSTREAM_CODEBOOKS);
    for (size_t at = 0; at < count; piece = piece < 500 ? 3 * piece : 1) {
        size_t end = at + piece < count ? at + piece : count;
        while (at < end) {
            at += soundstream_hear(&net, samples + at, end - at);
            if (net.ready)
                tell();
        }
    }
    while (soundstream_finish(&net))
        tell();
    call(1, 0, 0, 0);
}
