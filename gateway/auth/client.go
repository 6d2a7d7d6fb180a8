package auth

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// maxAnswer bounds the body of a service's response, in bytes.
const maxAnswer = 1 << 20

// errRedirect ends a request that the service redirects: the credentials in it are for the
// configured address only.
var errRedirect = errors.New("the service answered with a redirection, which is not followed; set its final URL")

// newClient returns a client for one service.
func newClient(t TLS, timeout time.Duration, connections int) (*http.Client, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("reading tls_ca: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls_ca: %s holds no certificate in PEM", t.CA)
		}
	}
	if t.Certificate != "" {
		if _, err := tls.LoadX509KeyPair(t.Certificate, t.Key); err != nil {
			return nil, fmt.Errorf("reading tls_certificate and tls_key: %w", err)
		}
		// It is read for each connection, so that it can be renewed without a restart.
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(t.Certificate, t.Key)
			return &pair, err
		}
	}
	return &http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return errRedirect },
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: timeout}).DialContext,
			TLSClientConfig:     conf,
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: connections,
			IdleConnTimeout:     90 * time.Second,
			TLSHandshakeTimeout: timeout,
		},
	}, nil
}

// bounded is a transport for a library that reads whole responses and quotes them in errors.
// Its responses have at most maxAnswer bytes, and status 200 or a redirection.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode/100 != 3 {
		resp.Body.Close()
		return nil, fmt.Errorf("the service answered with status %d", resp.StatusCode)
	}
	resp.Body = &boundedBody{resp.Body, maxAnswer}
	return resp, nil
}

type boundedBody struct {
	io.ReadCloser
	left int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, fmt.Errorf("the service answered with more than %d bytes", maxAnswer)
	}
	return n, err
}
