// Benchinstall measures how long the installation of an image takes, next to what a person would do by hand. scripts/bench
// makes the image, builds this program and runs it; each verb is one process of the measurement:
//
//	synthetic  make up an image, where no real one can be had
//	build      cut and compress an image, as the publisher does: its index and its pack
//	serve      serve a directory over HTTP on loopback, to every contender alike
//	fill       install once, with the code that the agent runs: updater.Filler over partitions.Slots and transport.Blob
//	run        make a disk, let the contenders take turns, print what was measured
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/evenkeel-os/evenkeel/image"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := verb(ctx, os.Args[1:])
	stop()
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func verb(ctx context.Context, args []string) error {
	verbs := map[string]func(context.Context, []string) error{"synthetic": synthetic, "build": build, "serve": serve, "fill": fill, "run": run}
	if len(args) == 0 || verbs[args[0]] == nil {
		return errors.New("want synthetic, build, serve, fill or run: see scripts/bench")
	}
	return verbs[args[0]](ctx, args[1:])
}

// synthetic makes an image of 1 GiB that compresses about as well as programs do: noise, text, and a third of zeros.
func synthetic(_ context.Context, args []string) (err error) {
	f := flag.NewFlagSet("synthetic", flag.ContinueOnError)
	out := f.String("out", "", "path of the image")
	if err := f.Parse(args); err != nil {
		return err
	}
	img, err := os.Create(*out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	noise := rand.NewChaCha8([32]byte{2})
	piece := make([]byte, mib)
	for off := int64(0); off < 680*mib; off += mib {
		_, _ = noise.Read(piece) // never fails
		for i := mib / 3; i < mib; i++ {
			piece[i] = "evenkeel"[piece[i]%8]
		}
		if _, err := img.WriteAt(piece, off); err != nil {
			return err
		}
	}
	return img.Truncate(1 << 30)
}

// build makes index and pack of one image. They appear under their names when they are complete.
func build(ctx context.Context, args []string) (err error) {
	f := flag.NewFlagSet("build", flag.ContinueOnError)
	source := f.String("image", "", "the image")
	out := f.String("out", "", "path of the result, without .index and .zst")
	level := f.Int("level", 0, "of compression; 0: the publisher's")
	if err := f.Parse(args); err != nil {
		return err
	}
	src, err := os.Open(*source)
	if err != nil {
		return err
	}
	defer src.Close()
	pack, err := os.Create(*out + ".part")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pack.Close()) }()
	ix, err := image.Build(ctx, src, pack, image.BuildOptions{Level: *level})
	if err != nil {
		return err
	}
	if err := os.WriteFile(*out+".index", ix.Bytes(), 0o644); err != nil {
		return err
	}
	return os.Rename(*out+".part", *out+".zst")
}

// serve prints its address and serves until it is told to stop.
func serve(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("serve: want a directory")
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("http://%s\n", l.Addr())
	srv := &http.Server{Handler: http.FileServer(http.Dir(args[0])), ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func readIndex(path string) (*image.Index, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return image.ParseIndex(b)
}
