/* What test pods run, static and alone in its image:
   say TEXT STATUS        prints TEXT, ends with STATUS
   serve PORT             answers every connection with "served\n", until killed
   fetch ADDRESS PORT     prints what a server there answers */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct sockaddr_in endpoint(const char *address, const char *port) {
    struct sockaddr_in result = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    inet_pton(AF_INET, address, &result.sin_addr);
    return result;
}

static int serve(const char *port) {
    struct sockaddr_in here = endpoint("0.0.0.0", port);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 8)) return 1;
    for (;;) {
        int client = accept(listener, 0, 0);
        if (client < 0) return 1;
        if (write(client, "served\n", 7) != 7) return 1;
        close(client);
    }
}

static int fetch(const char *address, const char *port) {
    struct sockaddr_in there = endpoint(address, port);
    char answer[64] = {0};
    int server = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(server, (struct sockaddr *)&there, sizeof there)) return 1;
    if (read(server, answer, sizeof answer - 1) <= 0) return 1;
    fputs(answer, stdout);
    return 0;
}

int main(int count, char **words) {
    if (count == 4 && !strcmp(words[1], "say")) {
        puts(words[2]);
        return atoi(words[3]);
    }
    if (count == 3 && !strcmp(words[1], "serve")) return serve(words[2]);
    if (count == 4 && !strcmp(words[1], "fetch")) return fetch(words[2], words[3]);
    return 2;
}
