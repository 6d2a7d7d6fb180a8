package http

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"time"

	"tributary.io/gateway/files"
	"tributary.io/sdk-plugin/event"
)

// Files is where bodies go that a plugin wants on disk, and where the files come from
// that plugins reply with.
type Files interface {
	Receive(application string, from io.Reader) (*event.Upload, error)
	Release(id string)
	Open(application, plugin, name string) (*files.File, error)
}

// Bounds of the fields beside the file of a multipart form.
const (
	maxFields     = 16
	maxFieldBytes = 4 << 10
)

// body reads the body of a request: as the event's data, or to disk if the plugin wants
// that. done is for when the event is over; it is never nil.
func (s *Server) body(w http.ResponseWriter, r *http.Request, in *event.Inbound) (done func(), status int, why string) {
	if s.files != nil && r.ContentLength != 0 && s.router.StoresBody(in) {
		return s.upload(w, r, in)
	}
	nothing := func() {}
	if r.ContentLength > int64(s.cfg.MaxBodyBytes) {
		status, why = s.tooLarge()
		return nothing, status, why
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(s.cfg.MaxBodyBytes)))
	s.stats.received.Add(uint64(len(body)))
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		status, why = s.tooLarge()
		return nothing, status, why
	}
	if err != nil {
		return nothing, http.StatusBadRequest, "the body could not be read"
	}
	if len(body) > 0 {
		in.Event.Data = body
	}
	return nothing, 0, ""
}

// upload writes the body to disk, of a multipart form its one file.
func (s *Server) upload(w http.ResponseWriter, r *http.Request, in *event.Inbound) (done func(), status int, why string) {
	control := http.NewResponseController(w)
	from := &paced{from: r.Body, renew: func(begin time.Time) error {
		now := time.Now()
		at := begin.Add(s.cfg.UploadTimeout)
		if next := now.Add(s.cfg.BodyTimeout); next.Before(at) {
			at = next
		}
		return errors.Join(control.SetReadDeadline(at),
			control.SetWriteDeadline(at.Add(s.cfg.RequestTimeout+10*time.Second)))
	}, begin: time.Now()}
	var up *event.Upload
	var err error
	if kind, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind == "multipart/form-data" {
		up, in.Event.Data, err = s.form(multipart.NewReader(from, params["boundary"]), in.Event.Application)
		in.Event.DataContentType, in.Event.Text = "application/json", true
	} else if up, err = s.files.Receive(in.Event.Application, from); err == nil {
		up.ContentType = r.Header.Get("Content-Type")
		in.Event.DataContentType = ""
	}
	s.stats.received.Add(uint64(from.n))
	if err != nil {
		if up != nil {
			s.files.Release(up.ID)
		}
		w.Header().Set("Connection", "close") // what is left of the body is not read
		status, why = s.refusedUpload(w, err)
		return func() {}, status, why
	}
	in.Transport.Upload = up
	return func() { s.files.Release(up.ID) }, 0, ""
}

var (
	errForm   = errors.New("a multipart form needs exactly one file")
	errFields = fmt.Errorf("a multipart form may have %d fields of %d bytes beside its file", maxFields, maxFieldBytes)
)

// form reads a multipart form: its file to disk, its fields into a JSON object.
func (s *Server) form(parts *multipart.Reader, application string) (up *event.Upload, fields []byte, err error) {
	values := map[string]string{}
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return up, nil, fmt.Errorf("reading the multipart form: %w", err)
		}
		if part.FileName() == "" {
			value, err := io.ReadAll(io.LimitReader(part, maxFieldBytes+1))
			if err != nil || len(value) > maxFieldBytes || len(values) == maxFields {
				return up, nil, errors.Join(errFields, err)
			}
			values[part.FormName()] = string(value)
			continue
		}
		if up != nil {
			return up, nil, errForm
		}
		if up, err = s.files.Receive(application, part); err != nil {
			return nil, nil, err
		}
		up.Name, up.ContentType = part.FileName(), part.Header.Get("Content-Type")
	}
	if up == nil {
		return nil, nil, errForm
	}
	if !event.ValidString(up.Name) || !event.ValidString(up.ContentType) {
		return up, nil, errors.New("the file's name or type has control characters")
	}
	fields, err = json.Marshal(values)
	return up, fields, err
}

// refusedUpload says what an upload that could not be taken is answered with.
func (s *Server) refusedUpload(w http.ResponseWriter, err error) (status int, why string) {
	switch {
	case errors.Is(err, files.ErrTooLarge):
		return http.StatusRequestEntityTooLarge, "the file is larger than the gateway takes"
	case errors.Is(err, files.ErrBusy):
		w.Header().Set("Retry-After", "1")
		return http.StatusTooManyRequests, "too many uploads of this application are under way; try again"
	case errors.Is(err, files.ErrFull):
		s.log.Error("an upload was refused, since there is no room for it", "listener", s.name, "error", err)
		w.Header().Set("Retry-After", "60")
		return http.StatusInsufficientStorage, "the gateway has no room for the file"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return http.StatusRequestTimeout, "the file came too slowly"
	case errors.Is(err, errForm), errors.Is(err, errFields):
		return http.StatusBadRequest, err.Error()
	}
	s.log.Info("an upload could not be read", "listener", s.name, "error", err)
	return http.StatusBadRequest, "the file could not be read"
}

// paced reads a body for as long as bytes come. renew moves the deadline on.
type paced struct {
	from  io.Reader
	renew func(begin time.Time) error
	begin time.Time
	last  time.Time
	n     int64
}

func (p *paced) Read(b []byte) (int, error) {
	if now := time.Now(); now.Sub(p.last) > time.Second {
		if err := p.renew(p.begin); err != nil {
			return 0, fmt.Errorf("waiting for more of a body: %w", err)
		}
		p.last = now
	}
	n, err := p.from.Read(b)
	p.n += int64(n)
	return n, err
}

// sendFile answers with a file of a plugin. Ranges and conditional requests (RFC 9110
// sections 13 and 14) are net/http's.
func (s *Server) sendFile(w http.ResponseWriter, r *http.Request, application, plugin string, p *event.Reply) int {
	if p.Code != 0 && p.Code != http.StatusOK {
		return refuse(w, http.StatusBadGateway, "the plugin answered with a file and a status other than 200")
	}
	f, err := s.files.Open(application, plugin, p.File)
	if errors.Is(err, files.ErrAbsent) {
		return refuse(w, http.StatusNotFound, "the file is no longer there")
	}
	if err != nil {
		s.log.Error("a file of a plugin cannot be read", "listener", s.name, "application", application, "plugin", plugin, "file", p.File,
			"error", err)
		return refuse(w, http.StatusInternalServerError, "the file cannot be read")
	}
	defer f.Close()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("ETag", `"`+f.Tag+`"`)
	copyHeaders(h, p.Headers)
	control := http.NewResponseController(w)
	recorded := &recorder{ResponseWriter: w}
	http.ServeContent(recorded, r, "", f.Changed, &pacedFile{File: f, renew: func() error {
		return control.SetWriteDeadline(time.Now().Add(s.cfg.BodyTimeout))
	}})
	return recorded.status
}

// pacedFile lets a client take its time, as long as it takes bytes.
type pacedFile struct {
	*files.File
	renew func() error
	last  time.Time
}

func (p *pacedFile) Read(b []byte) (int, error) {
	if now := time.Now(); now.Sub(p.last) > time.Second {
		if err := p.renew(); err != nil {
			return 0, fmt.Errorf("waiting for a client to take more of a file: %w", err)
		}
		p.last = now
	}
	return p.File.Read(b)
}

// recorder notes the status for the metrics.
type recorder struct {
	http.ResponseWriter
	status int
}

func (c *recorder) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}
